"""What is broken on purpose in lib/mesh, and the test that must then fail."""

LEASE = "tests/mesh/test_mesh_lease"


def lease(rule, name, old, new, says=""):
    return {"rule": rule, "name": name, "file": "lib/mesh/lease.c", "old": old, "new": new,
            "target": LEASE, "says": says}


MUTATIONS = [
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
]
