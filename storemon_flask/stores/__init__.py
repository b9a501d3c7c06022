"""What is shown of stores now: the list, the detail of one store, changes to its hours and zone."""
