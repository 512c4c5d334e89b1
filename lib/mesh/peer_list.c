#include "mesh/peer_list.h"

#include <stdlib.h>

#define ROOM_FIRST 16

void mesh_peer_list_add(struct mesh_peer_list *list, uint64_t peer)
{
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : ROOM_FIRST;
        uint64_t *peers = realloc(list->peers, room * sizeof(*peers));

        if (!peers)
            return;
        list->peers = peers;
        list->room = room;
    }
    list->peers[list->n++] = peer;
}

bool mesh_peer_list_take(struct mesh_peer_list *list, uint64_t *peer)
{
    if (list->n == 0)
        return false;
    *peer = list->peers[--list->n];
    return true;
}

void mesh_peer_list_fini(struct mesh_peer_list *list)
{
    free(list->peers);
    *list = (struct mesh_peer_list){0};
}
