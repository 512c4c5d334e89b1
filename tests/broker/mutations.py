"""What is broken on purpose in the broker, and the invariant that the simulation must then miss."""

SIMULATION = "tests/broker/test_broker_simulation"
LOAD = "tests/broker/test_broker_load"
SETTLE = "tests/broker/test_broker_settle"


def core(rule, name, file, old, new, says="not true", target=SIMULATION):
    return {"rule": rule, "name": name, "file": file, "old": old, "new": new,
            "target": target, "says": says}


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
    core("I1", "END is said twice", "broker/call.c",
         "        core_send_end(core, call->caller, call->caller_id, &said);\n",
         "        core_send_end(core, call->caller, call->caller_id, &said);\n" * 2),
    core("I2", "deadlines are forgotten", "broker/call.c",
         "    call->deadline_ns = mesh_deadline_after(now_ns, header->timeout_ns);\n",
         "    call->deadline_ns = MESH_NEVER;\n"),
    core("--", "callers are asked to come anew before it is time", "broker/session.c",
         "    age += age / 10 * part / 1000;\n", "    age += age / 5 * part / 1000;\n"),
    core("--", "callers are asked to come anew again and again", "broker/session.c",
         "        core_send(core, session, &header, NULL, NULL, false);\n    }\n}\n",
         "        core_send(core, session, &header, NULL, NULL, false);\n        set_age(core, session);\n    }\n}\n"),
    core("I3", "calls that must run once are tried again", "broker/dispatch.c",
         "    const uint16_t needed = MESH_IDEMPOTENT | MESH_END_SEND;\n",
         "    const uint16_t needed = MESH_END_SEND;\n"),
    core("I3", "second tries without end", "broker/dispatch.c",
         "call->header.attempt < ATTEMPTS_MAX", "call->header.attempt < 99"),
    core("I5", "answers reach whoever had the number before", "broker/router.c",
         "        header->call_id = call->caller_id;\n        if (call->header.attempt",
         "        header->call_id = call->caller_id - 1;\n        if (call->header.attempt"),
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
    core("--", "labels are ignored", "broker/pool.c",
         "        if (selector_matches(pool->selector, worker->offer->labels, worker->offer->n_labels))",
         "        if (true)"),
    core("I2", "the deadlines of waiting calls are not watched", "broker/call.c",
         """        if (!call->caller) {
            sick_stuck(core, call);""",
         """        if (!call->worker)
            continue;
        if (!call->caller) {
            sick_stuck(core, call);"""),
    core("I3", "a call whose answer has begun is tried again", "broker/router.c",
         "    call_drop_open(core, call); /* an answer has begun */\n", ""),
    core("I3", "a second try's end says that nothing has run", "broker/call.c",
         "    said.unprocessed &= call->header.attempt == 0; /* a first worker may have run it */\n", ""),
    core("I11", "a broker that starts has no patience", "broker/core.c",
         "    return open->flags & MESH_WAIT || core->settled_ns > 0;", "    return open->flags & MESH_WAIT;",
         "calls_wait_for_workers_that_come_back", SETTLE),
    core("I4", "a message of a stream is lost", "broker/router.c",
         "    if (!call->caller) {\n        stats_dropped",
         "    if (!call->caller || header->seq == 2) {\n        stats_dropped"),
    core("I4", "a caller's message is lost", "broker/router.c",
         "    if (call->open && header->flags & MESH_MESSAGE)\n",
         "    if (header->seq == 3)\n        return false;\n"
         "    if (call->open && header->flags & MESH_MESSAGE)\n"),
    core("I5", "calls are found by their number alone, whoever asks", "broker/call.c",
         "    return call && call->worker == worker ? call : NULL;\n",
         "    if (call && call->worker != worker)\n        call->caller_id++;\n    return call;\n"),
    core("I6", "a lower share is not taken note of", "broker/worker.c",
         "    worker->capacity = capacity;\n",
         "    worker->capacity = capacity > worker->capacity ? capacity : worker->capacity;\n"),
    core("I7", "the queue has no end", "broker/queue.c",
         "    if (queue->count >= queue->limit ||", "    if ("),
    core("I7", "the queue has no end in bytes", "broker/queue.c",
         "        queue->bytes > queue->bytes_limit - entry->bytes)", "        false)"),
    core("I8", "a worker is told the time that was left when the call came", "broker/dispatch.c",
         "    call->header.timeout_ns = mesh_deadline_left(call->deadline_ns, now_ns);\n", ""),
    core("I8", "calls end before their deadline", "broker/call.c",
         "        mesh_timer_set(&core->deadlines, &call->timer, call->deadline_ns) < 0) {\n",
         "        mesh_timer_set(&core->deadlines, &call->timer, call->deadline_ns - 20000000) < 0) {\n"),
    core("I8", "whoever comes is let in, however many wait", "broker/admission.c",
         "    if (hopeless(call, pool, now_ns)) {", "    if (false && hopeless(call, pool, now_ns)) {",
         target=LOAD, says="n_ok >= 0.9 * PEAK"),
    core("I9", "tenants stand in one line", "broker/queue.c",
         "    if (one->tenant->clock != other->tenant->clock)\n", "    if (false)\n",
         target=LOAD, says="n_ok >= "),
    core("I9", "weights are not looked at", "broker/queue.c",
         "            return queue->weights[i].weight;\n", "            return 1;\n",
         target=LOAD, says="* 3 / 4"),
    core("I9", "a flood fills the queue", "broker/queue.c",
         "    if (!most || most->count * newcomer->weight <= (newcomer->count + 1) * most->weight)\n",
         "    if (true)\n", target=LOAD, says="n_sent * 99 / 100"),
    core("I10", "credit for a waiting call is lost", "broker/router.c",
         "    if (header->kind == MESH_CREDIT) {\n", "    if (header->kind == 0) {\n"),
    core("I10", "credit is taken back", "broker/router.c",
         "        if (header->credit_messages > call->header.credit_messages)\n", ""),
    core("I11", "a worker is told to go while it still runs calls", "broker/worker.c",
         "    if (worker->running == 0)\n        core_send_kind(core, session, MESH_DRAINED, 0);\n",
         "    core_send_kind(core, session, MESH_DRAINED, 0);\n"),
    core("I11", "a worker that leaves is given calls", "broker/worker.c",
         "    registry_drain(&core->registry, worker);\n    core->levels_stale = true;\n",
         "    worker->draining = true;\n"),
    core("--", "a free worker is left idle while calls wait", "broker/router.c",
         "    router_fill(core, worker, now_ns);\n", ""),
    core("--", "all sick workers are spared", "broker/pool.c",
         "    size_t left = pool->n_members / 2;\n", "    size_t left = pool->n_members;\n"),
]
