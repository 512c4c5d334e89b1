"""What is broken on purpose in who may do what, and the test that must then fail."""

CORE = "tests/broker/test_broker_access"
WHOLE = "tests/mesh/test_mesh_identity"
DOORS = "tests/mesh/test_mesh_security"


def broken(name, file, old, new, says, target=CORE):
    return {"rule": "keys", "name": name, "file": file, "old": old, "new": new, "target": target,
            "says": f"[  FAILED  ] {says}"}


MUTATIONS = [
    broken("the caller writes its own number", "broker/call.c",
           "    call->header.status = identity_number(session);\n", "",
           "a_worker_is_told_each_name_once_before_it_matters"),
    broken("names are told too late, never", "broker/dispatch.c",
           "    identity_tell(core, worker, call);\n", "",
           "a_worker_is_told_each_name_once_before_it_matters"),
    broken("a routing id is proof enough", "broker/core.c",
           "    if (event->identity != identity_number(session)) {", "    if (false) {",
           "a_routing_id_is_no_proof"),
    broken("withdrawn keys may say HELLO", "broker/session.c",
           "    if (event->identity && !event->who) {", "    if (false) {",
           "who_is_let_in_no_longer_gets_no_session"),
    broken("known methods are open to all", "broker/open.c",
           "        !permitted(core, session, frame->header.call_id, service->name, strlen(service->name)))\n",
           "        false)\n",
           "a_caller_is_held_to_its_certificate"),
    broken("patterns match anything that begins like them", "lib/mesh/certificate.c",
           "                                      : n == size && memcmp(at, service, n) == 0)",
           "                                      : n <= size && memcmp(at, service, n) == 0)",
           "patterns_match_names", "tests/mesh/test_mesh_certificate"),
    broken("workers offer what they like", "broker/worker.c",
           "    if (!identity_may_offer(", "    if (false && !identity_may_offer(",
           "a_worker_is_held_to_its_certificate"),
    broken("withdrawal meets the other side", "broker/identity.c",
           "        if (session->side == side && identity_number(session) == number) {",
           "        if (identity_number(session) == number) {",
           "a_withdrawn_callers_calls_end"),
    broken("withdrawal is not told", "broker/access.c",
           "        err = tell(access, side, gone, n_gone);\n", "        err = 0;\n",
           "reload_tells_what_has_gone"),
    broken("connections are not cut", "lib/mesh/transport.c",
           "            shutdown((int)fd, SHUT_RDWR);\n", "            continue;\n",
           "a_withdrawn_peer_loses_its_connection", WHOLE),
    broken("a bound server asks no certificate", "lib/mesh/server_frames.c",
           "    if (!permitted(source, method, &status) ||\n", "    if (\n",
           "a_bound_server_asks_the_certificate_too", WHOLE),
    broken("a bound server keeps the withdrawn", "lib/mesh/peers.c",
           "    if (peers->keyring)\n        look_at_keyring(peers);\n", "",
           "a_bound_server_drops_the_withdrawn_too", WHOLE),
    broken("ZAP lets every key in", "lib/mesh/zap.c",
           "    number = judge(handler, parts);\n", "    number = judge(handler, parts);\n    number += !number;\n",
           "an_unknown_key_is_refused", DOORS),
    broken("CURVE without keyrings", "lib/mesh/security.c",
           "    if (!keyring) /* libzmq would let everyone in */\n        return -EINVAL;\n",
           "    if (!keyring)\n        return 0;\n",
           "a_broker_without_keyrings_does_not_start", DOORS),
]
