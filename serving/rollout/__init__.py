"""Rolling a version out: who gets it, what is counted, when it goes on and when it is taken back.

Pure logic and two files: the policy, which a person edits while it runs, and the state, which survives the process. No
HTTP, no engines: a gateway asks, and does what it is told.

    # each worker                                           # the one owner, every second or so
    assigned = assignment.of(request_id, caller)            evidence = Evidence.total(epoch, of_the_workers)
    evidence.record(assigned, answer)                       move = advance(rollout, evidence, policy.current(), now, …)
    evidence.record_shadow(assigned, answer, other, dice)   file.write(Kept(move.rollout, evidence))
                                                            for effect in move.effects: …
"""
