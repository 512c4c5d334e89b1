"""What is broken on purpose in the broker, and the invariant that the simulation must then miss."""

SIMULATION = "tests/broker/test_broker_simulation"


def core(rule, name, file, old, new, says="not true"):
    return {"rule": rule, "name": name, "file": file, "old": old, "new": new,
            "target": SIMULATION, "says": says}


MUTATIONS = [
    core("I1", "no END for the calls of a dead worker", "broker/orphan.c",
         """        call_leave_worker(core, call);
        call_end(core, call, &verdict, now_ns);
""",
         """        call_leave_worker(core, call);
        if (call->caller)
            call_leave_caller(core, call, verdict.code, now_ns);
        call_free(core, call);
"""),
    core("I1", "frames after END are passed on", "broker/router.c",
         "        call_leave_caller(core, call, header->status, now_ns);\n", ""),
    core("I2", "deadlines are forgotten", "broker/call.c",
         "    call->deadline_ns = mesh_deadline_after(now_ns, header->timeout_ns);\n",
         "    call->deadline_ns = MESH_NEVER;\n"),
    core("I3", "calls that must run once are tried again", "broker/dispatch.c",
         "    const uint16_t needed = MESH_IDEMPOTENT | MESH_END_SEND;\n",
         "    const uint16_t needed = MESH_END_SEND;\n"),
    core("I3", "second tries without end", "broker/dispatch.c",
         "call->header.attempt < ATTEMPTS_MAX", "call->header.attempt < 99"),
    core("I5", "answers reach whoever had the number", "broker/router.c",
         "        header->call_id = call->caller_id;\n        core_pass(core, message, call->caller, header);\n"
         "        call_leave_caller",
         "        header->call_id = call->caller_id - 1;\n        core_pass(core, message, call->caller, header);\n"
         "        call_leave_caller"),
    core("I6", "a slot is free once the call is cancelled", "broker/call.c",
         "    call_cancel_at_worker(core, call, verdict->code);\n",
         "    call_cancel_at_worker(core, call, verdict->code);\n"
         "    call_leave_worker(core, call);\n    call_free(core, call);\n"),
    core("I6", "one call more than slots", "broker/pool.c",
         "bool ready = worker->running < worker->capacity &&",
         "bool ready = worker->running <= worker->capacity &&"),
    core("I6", "one call more than slots, from the queue", "broker/dispatch.c",
         "    while (!worker->draining && worker->running < worker->capacity &&",
         "    while (!worker->draining && worker->running <= worker->capacity &&"),
    core("I6", "labels are ignored", "broker/pool.c",
         "        if (selector_matches(pool->selector, worker->offer->labels, worker->offer->n_labels))",
         "        if (true)"),
]
