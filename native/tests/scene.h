/* SPDX-License-Identifier: BSD-2-Clause
 *
 * scene.h: three who share memory with each other.
 */
#ifndef SCENE_H
#define SCENE_H

#include "puppets.h"

/* The root, and two tasks. */
struct scene {
    aiopip_client *client;
    struct puppet puppets[3];
};

static inline struct scene scene_begin(void)
{
    struct scene scene = {.client = open_client(4)};

    scene.puppets[0] = puppet_root(scene.client);
    scene.puppets[1] = puppet_start(scene.client);
    scene.puppets[2] = puppet_start(scene.client);
    return scene;
}

static inline void scene_end(struct scene *scene)
{
    for (int i = 0; i < 3; i++) {
        if (i > 0)
            puppet_exit(&scene->puppets[i]);
        puppet_forget(&scene->puppets[i]);
    }
    check_clean(scene->client);
    close_client(scene->client);
}

#endif
