"""What is broken on purpose in lib/mesh, and the test that must then fail."""

LEASE = "tests/mesh/test_mesh_lease"
IPC = "tests/mesh/test_mesh_ipc"
HOSTILE = "tests/mesh/test_mesh_ipc_hostile"
CROWD = "tests/mesh/test_mesh_ipc_crowd"
TURNOVER = "tests/mesh/test_mesh_turnover"


def lease(rule, name, old, new, says=""):
    return {"rule": rule, "name": name, "file": "lib/mesh/lease.c", "old": old, "new": new,
            "target": LEASE, "says": says}


def ours(name, file, old, new, target, **more):
    """Of the sockets over ipc://; what then waits for ever counts as noticed, too."""
    return {"rule": "--", "name": name, "file": f"lib/mesh/{file}", "old": old, "new": new, "target": target,
            "limit_s": 30, "hangs": True} | more


def turnover(name, file, old, new):
    return {"rule": "--", "name": name, "file": f"lib/mesh/{file}", "old": old, "new": new, "target": TURNOVER}


MUTATIONS = [
    turnover("new calls wait for the next session", "session.c", "    session->leaving = true;\n    wake_twin(session);\n",
             "    session->leaving = true;\n    session->going = true;\n    wake_twin(session);\n"),
    turnover("a session with calls is given up for the next", "session.c",
             "    if (session->going && session->slots.n_used == 0)\n", "    if (session->going)\n"),
    turnover("the old session stays", "session.c", "    twin->leaving = false;\n    twin->going = true;\n",
             "    twin->leaving = false;\n"),
    turnover("both seek a session when the old one dies", "session.c", "    if (rests(twin) || twin->going)\n        return;\n",
             "    if (rests(twin) || !twin->going)\n        return;\n"),
    turnover("who is asked while its twin has calls forgets it", "session.c",
             "    if (twin->leaving)\n        wake_twin(twin);\n", ""),
    turnover("who is asked again and again does not wait", "link.c",
             "    link->retry_at = now_ns + backoff_ns(link); /*", "    link->retry_at = now_ns; /*"),
    lease("I6", "a share counts as lowered once that is said", "max3(share->told, share->before, share->running)",
          "max3(share->told, 0, share->running)", "more than"),
    lease("I6", "any PONG says that a share is lowered", "!share->tell && token >= share->token)",
          "!share->tell)"),
    lease("I6", "calls that run are given away", "max3(share->told, share->before, share->running)",
          "max3(share->told, share->before, 0)", "more than"),
    lease("I6", "calls of lost sessions do not count", "    uint64_t taken = lease->lost;\n",
          "    uint64_t taken = 0;\n", "more than"),
    lease("I6", "a newcomer gets all of it", "    share->told = share->target = room(lease);\n",
          "    share->told = share->target = lease->capacity;\n"),
    lease("--", "what waits is not looked at", "    uint64_t wanted = (uint64_t)share->running + share->demand;\n",
          "    uint64_t wanted = share->running;\n"),
    lease("--", "who has nothing waits for ever", "(share->told == 0 && share->demand > 0) == (starved == 1)",
          "(i + 1 == lease->n) == (starved == 0)"),
    lease("--", "a broker that leaves is lent to", "    return share->up && !share->going;\n",
          "    return share->up;\n"),
    ours("skipping a message of many frames does not end", "engine.c", "        engine->skipping = engine->frame.more;\n", "",
         HOSTILE, says="a_message_of_many_frames"),
    ours("a message of many frames is refused at each of them", "engine.c", "    bool too_many = !frame->command && engine->has_first && frame->more;\n",
         "    bool too_many = !frame->command && (engine->has_first || engine->skipping) && frame->more;\n", HOSTILE,
         says="a_message_of_many_frames"),
    ours("two frames may be as large as two", "engine.c", "engine->max_frame_bytes - before", "engine->max_frame_bytes",
         HOSTILE, says="wrong_bytes_end"),
    ours("a frame cut by the end of what was read is put together wrongly", "engine.c",
         "    engine->filled += (size_t)got < left ? (size_t)got : left;\n", "", IPC),
    ours("a header in two pieces is read anew", "engine.c", "        take_head(engine, intake, engine->head_size + 1);\n",
         "        engine->head_size = 0;\n        take_head(engine, intake, engine->head_size + 1);\n", IPC),
    ours("the bound of what waits is not looked at", "engine.c", "engine->n_parcels < MESH_ENGINE_MESSAGES &&",
         "engine->n_parcels < 1000000 &&", IPC, says="who_does_not_read"),
    ours("nor is that in bytes", "engine.c", "engine->parcel_bytes < MESH_ENGINE_BYTES", "engine->parcels == engine->parcels",
         IPC, says="who_does_not_read"),
    ours("a write that fails does not mute", "engine.c", "    if (done < 0) {\n        engine->mute = true;\n        return -EHOSTUNREACH;\n    }\n",
         "    if (done < 0)\n        done = 0;\n", IPC, says="a_peer_that_has_gone"),
    ours("a peer is lost before his last message", "ipc.c", "    err = mesh_engine_read(&connection->engine, &ipc->intake, &drained);\n",
         "    err = mesh_engine_read(&connection->engine, &ipc->intake, &drained);\n"
         "    if (recv(connection->engine.fd, &(char){0}, 1, MSG_PEEK | MSG_DONTWAIT) == 0)\n        note_lost(ipc, connection);\n",
         IPC, says="nobody_is_lost"),
    ours("who waits to write is not told when he can", "ipc.c", "    bool waits = mesh_engine_waits(&connection->engine);\n",
         "    bool waits = false;\n", IPC, says="who_does_not_read"),
    ours("nor is it ever over", "ipc.c", "    bool waits = mesh_engine_waits(&connection->engine);\n",
         "    bool waits = connection->armed || mesh_engine_waits(&connection->engine);\n", IPC, says="waiting_for_a_reader"),
    ours("a peer's serial number is not looked at", "ipc.c", "connection && (ipc->kind == MESH_DEALER || connection->peer == peer)",
         "connection", IPC, says="numbers_are_not_used_again"),
    ours("who never sends a message keeps the owner", "ipc.c", "(reads++ < READS && read_next(ipc))", "(reads >= 0 && read_next(ipc))",
         CROWD, says="the_owner_is_not_kept"),
    ours("who never stops sending keeps others from being heard", "ipc.c", " || ipc->n_reads == READS)", ")", CROWD, says="others_are_heard"),
    ours("a pause without descriptors is none", "ipc.c", "    ipc->paused_until = now_ns + PAUSE_NS;\n    for (size_t i = 0; i < ipc->n_listeners; i++)\n"
         "        watch(ipc, EPOLL_CTL_MOD, ipc->listeners[i].fd, 0, i);\n", "    ipc->paused_until = now_ns + PAUSE_NS;\n",
         CROWD, says="without_descriptors"),
    ours("and its end wakes nobody", "ipc.c", "return ipc->paused && ipc->paused_until < next ? ipc->paused_until : next;",
         "return next;", CROWD, says="without_descriptors"),
    ours("a greeting has all the time it wants", "ipc.c", "now_ns >= connection->greeted_by)", "now_ns == connection->greeted_by)",
         HOSTILE, says="who_does_not_greet"),
    ours("one that was not looked at does not count", "ipc.c", "        if (!spare(ipc, connection, now_ns))\n            end(",
         "        if (!spare(ipc, connection, now_ns) || true)\n            end(", HOSTILE, says="not_looked_at"),
    ours("what waits is dropped when a socket is closed", "ipc.c", "    linger(self, linger_ms);\n", "    (void)linger_ms;\n    (void)linger;\n", IPC,
         says="sent_before_its_end"),
]
