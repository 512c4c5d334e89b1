/*
 * peer_list.h - numbers of peers that somebody is to be told of: who has gone
 */
#ifndef MESH_PEER_LIST_H
#define MESH_PEER_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** All zero: empty. */
struct mesh_peer_list {
    uint64_t *peers; /* (n of room) */
    size_t n, room;
};

/** Without memory it is left out: its heartbeats will tell. */
void mesh_peer_list_add(struct mesh_peer_list *list, uint64_t peer);
/** The last one. @return false: none */
bool mesh_peer_list_take(struct mesh_peer_list *list, uint64_t *peer);
void mesh_peer_list_fini(struct mesh_peer_list *list);

#endif
