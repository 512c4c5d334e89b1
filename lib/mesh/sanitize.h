/*
 * sanitize.h - tells ThreadSanitizer what it cannot see inside libzmq
 *
 * libzmq is not instrumented: that a message handed over on one thread is received on another after
 * it was written, its lock-free pipes see to. Nothing of this is in an ordinary build.
 */
#ifndef MESH_SANITIZE_H
#define MESH_SANITIZE_H

#if defined(__SANITIZE_THREAD__)
#define MESH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MESH_TSAN 1
#endif
#endif

#ifdef MESH_TSAN
void __tsan_acquire(void *at);
void __tsan_release(void *at);
#define MESH_SENT(at) __tsan_release(at)
#define MESH_RECEIVED(at) __tsan_acquire(at)
#else
#define MESH_SENT(at) ((void)(at))
#define MESH_RECEIVED(at) ((void)(at))
#endif

#endif
