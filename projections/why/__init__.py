"""Why a resource is as it is: the shortest chain of events, or named absences, from what was asked about to the root.

`chain` has what an answer is made of, `answer` asks the rules of a kind one after the other; each rule is a function in
the module of what it explains: `deletion`, `claims`, `addresses`, `readiness`, `binding`, `members`. What is wrong was
judged before, by `findings`; here it is only told in the order in which one thing led to the next.
"""
