// A store's page leads back to the list as it was left. This script is no module: it has run before there is a link to follow.
{
  const from = document.referrer ? new URL(document.referrer) : null;
  if (from?.origin === location.origin && from.pathname === "/") sessionStorage.setItem("list", from.search);
  const lead = () => {
    const back = document.getElementById("back");
    if (back) back.search = sessionStorage.getItem("list") ?? "";
  };
  for (const type of ["DOMContentLoaded", "click", "auxclick"]) addEventListener(type, lead, true);
}
