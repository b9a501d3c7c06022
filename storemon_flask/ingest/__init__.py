"""Text becomes columns, and what cannot becomes rejects with a line number and a reason. One set of validators."""
