"""What is broken on purpose in the libraries and the broker that the simulation cannot see, and who must miss it.

Run by tests/support/mutate.py: a case of the interop suite, or a fault with real processes and their history.
"""
import os

HERE = os.path.dirname(os.path.abspath(__file__))
INTEROP = "tests/mesh/interop/test_mesh_interop"


def interop(rule, name, file, old, new, transport, case, says):
    return {"rule": rule, "name": name, "file": file, "old": old, "new": new, "target": INTEROP,
            "run": ["timeout", "60", "{binary}", transport, case], "says": says}


def fault(rule, name, file, old, new, role, story, says):
    target = {"BROKER": "broker/dragoman-broker", "CLIENT": "tests/faults/faults_client",
              "WORKER": "tests/faults/faults_worker"}[role]
    return {"rule": rule, "name": name, "file": file, "old": old, "new": new, "target": target,
            "run": ["env", f"FAULTS_{role}={{binary}}", "python3", os.path.join(HERE, "test_faults.py"),
                    f"Faults.test_{story}"], "says": says, "tries": 3}


MUTATIONS = [
    interop("I1", "calls of a lost session are forgotten", "lib/mesh/session.c",
            "            mesh_calls_end(channel, stream, &status, false);\n    }\n}\n", "            (void)stream;\n    }\n}\n",
            "direct-inproc", "rst_after_data", "ERROR"),
    interop("I2", "whoever is silent lives for ever", "lib/mesh/heartbeat.c",
            "    return now_ns - beat->heard_at < MESH_HEARTBEAT_MISSES * beat->interval_ns;", "    return true;",
            "direct-inproc", "keepalive_timeout", "never true: worker->cancelled == 1"),
    interop("I3", "calls that must run once are tried again", "lib/mesh/channel_calls.c",
            "    if (!stream->idempotent)\n        return false;\n    if (fate", "    if (fate",
            "direct-inproc", "retry_disabled", "FAILED  ] retry_disabled"),
    interop("I3", "retries without end", "lib/mesh/retry.c",
            "attempt + 1 < ", "attempt < 9 + ",
            "direct-inproc", "retry_exceeds_attempts", "FAILED  ] retry_exceeds_attempts"),
    interop("I10", "a sender does not look at its credit", "lib/mesh/credit.c",
            "    return credit->messages < credit->limit_messages && credit->bytes < credit->limit_bytes;",
            "    return credit->limit_messages > 0;",
            "direct-inproc", "flow_control_push_back_server", "FAILED  ] flow_control_push_back_server"),
    interop("I10", "a receiver does not look either", "lib/mesh/credit.c",
            "        return false;\n    credit->received_messages++;", "        credit->limit_messages++;\n"
            "    credit->received_messages++;",
            "direct-inproc", "window_overflow", "FAILED  ] window_overflow"),
    interop("I11", "a drain does not wait for what runs", "lib/mesh/server_loop.c",
            "    if (!server->draining || !server_brokers_drained(server) || server->n_calls > 0 ||\n"
            "        callers_stay(server))\n",
            "    if (!server->draining)\n",
            "broker-ipc", "drain_waits", "FAILED  ] drain_waits"),
    {"rule": "I12", "name": "headers are not summed", "file": "lib/mesh/frame.c",
     "old": "    if (get32(at + CRC_OFFSET) != mesh_crc32c(at, CRC_OFFSET))\n        return -EBADMSG;\n", "new": "",
     "target": "tests/mesh/test_mesh_protocol_server", "run": ["timeout", "60", "{binary}"],
     "says": "FAILED  ] garbage_ends_the_session"},
    fault("I8", "a caller's deadline has no timer", "lib/mesh/channel_calls.c",
          "             mesh_timer_set(&channel->deadlines, &stream->timer, stream->deadline_ns) < 0)",
          "             !channel)",
          "CLIENT", "broker_stopped", "I2: call"),
    fault("I8", "a caller's deadline is a time of the wall clock", "lib/mesh/stream.c",
          "        mesh_deadline_after(seen->begun_ns, options->timeout_ms * NS_PER_MS);",
          "        mesh_deadline_after(({\n"
          "            static int64_t apart_ns;\n"
          "            struct timespec now;\n"
          "            clock_gettime(CLOCK_REALTIME, &now);\n"
          "            int64_t wall_ns = now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;\n"
          "            apart_ns = apart_ns ? apart_ns : seen->begun_ns - wall_ns;\n"
          "            wall_ns + apart_ns;\n"
          "        }), options->timeout_ms * NS_PER_MS);",
          "CLIENT", "wall_clock_jumps", "ended DEADLINE_EXCEEDED"),
    fault("I8", "a broker's clock is the wall clock", "lib/base/clock.c", "CLOCK_MONOTONIC", "CLOCK_REALTIME",
          "BROKER", "wall_clock_jumps", "ended DEADLINE_EXCEEDED"),
    fault("I2", "a silent broker is waited for", "lib/mesh/heartbeat.c",
          "    return now_ns - beat->heard_at < MESH_HEARTBEAT_MISSES * beat->interval_ns;", "    return true;",
          "CLIENT", "one_of_two_brokers_stopped", "waited for the silent one"),
    fault("I7", "connections take the last descriptor", "lib/mesh/monitor.c",
          "    if (fd < monitor->most_fd)\n        return;\n", "    if (fd >= 0)\n        return;\n",
          "BROKER", "descriptors_run_out", "seconds of processor time"),
    fault("I3", "a worker's loss is told as if nothing had run", "broker/orphan.c",
          "verdict_make(STATUS_UNAVAILABLE, false, \"worker '%s' of %s is gone: %s\",",
          "verdict_make(STATUS_OK, false, \"worker '%s' of %s is gone: %s\",",
          "BROKER", "worker_killed", "findings"),
    fault("I5", "a worker answers with another's secret", "tests/faults/worker.c",
          "    response.proof = ledger_proof(request->secret, seq);",
          "    response.proof = ledger_proof(request->secret ^ (request->call % 50 == 0), seq);",
          "WORKER", "worker_killed", "I5: call"),
    fault("I6", "a worker says that it can do more than it may", "tests/faults/worker.c",
          ".capacity = (uint32_t)config.capacity}", ".capacity = (uint32_t)config.capacity * 2}",
          "WORKER", "worker_killed", "I6: worker"),
    fault("I4", "a worker leaves a message out", "tests/faults/worker.c",
          "        if (config.sent)\n", "        if (seq == 3)\n            seq++;\n        if (config.sent)\n",
          "WORKER", "worker_killed", "I4: call"),
]
