"""Files and bodies become columns of polls, hours and zones; what cannot be used becomes rejects with a line and a
reason.
"""
