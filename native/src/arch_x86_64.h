/* SPDX-License-Identifier: BSD-2-Clause
 *
 * arch_x86_64.h: all that depends on the architecture and is no code of its own: system calls,
 * clone, the jump into a program, and the machine code that is written over libc and ld.so.
 * Everything here is inline and freestanding: it may run in a child before it has a libc.
 */
#ifndef ARCH_X86_64_H
#define ARCH_X86_64_H

#ifndef __x86_64__
#error "aiopip runs on x86-64; another architecture is one more file like this one"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#define ARCH_PAGE 4096UL
#define ARCH_HUGE_PAGE (2UL << 20)
#define ARCH_ELF_MACHINE 62 /* EM_X86_64 */

/* The folder of libraries in /usr/lib, on distributions that have one for each architecture. */
#define ARCH_MULTIARCH "x86_64-linux-gnu"

/* Where tasks live: between the bottom-up search of legacy layouts (from 0x2aaa...) and the programs
 * (from 0x5555...), in the lower half of 47 bits. */
#define ARCH_AREA_START 0x300000000000UL
#define ARCH_AREA_END 0x500000000000UL

static inline long sys6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static inline long sys5(long number, long a, long b, long c, long d, long e)
{
    return sys6(number, a, b, c, d, e, 0);
}

static inline long sys4(long number, long a, long b, long c, long d)
{
    return sys6(number, a, b, c, d, 0, 0);
}

static inline long sys3(long number, long a, long b, long c)
{
    return sys6(number, a, b, c, 0, 0, 0);
}

static inline long sys2(long number, long a, long b)
{
    return sys6(number, a, b, 0, 0, 0, 0);
}

static inline long sys1(long number, long a)
{
    return sys6(number, a, 0, 0, 0, 0, 0);
}

static inline long sys0(long number)
{
    return sys6(number, 0, 0, 0, 0, 0, 0);
}

/* clone3 (number, args, size) or clone (number, flags, stack, pidfd, child_tid, tls): both take
 * their arguments as any call does, and both come back in the child with nothing but a new stack,
 * where no code of the parent's frame may run: the child goes straight to entry(argument). */
static inline long arch_clone(long number, long a, long b, long c, long d, long e,
                              void (*entry)(void *), void *argument)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register void (*r12)(void *) __asm__("r12") = entry;
    register void *r13 __asm__("r13") = argument;
    long result;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r12), "r"(r13)
                     : "rcx", "r11", "memory");
    return result;
}

/* Enter code as the kernel does after execve: rdx is what a program registers with atexit, and the
 * floating-point modes are the defaults, whatever those of the cloning thread were.  rax: what the code
 * expects there, which a program does not. */
static inline __attribute__((noreturn)) void arch_enter(uintptr_t code, uintptr_t rax,
                                                        uintptr_t stack)
{
    static const uint32_t mxcsr = 0x1f80;

    __asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(mxcsr));
    __asm__ volatile("mov %[stack], %%rsp\n\t"
                     "xor %%edx, %%edx\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "jmp *%[code]"
                     :
                     : "a"(rax), [stack] "c"(stack), [code] "S"(code)
                     : "memory");
    __builtin_unreachable();
}

/* ld.so begins with "mov %rsp, %rdi; call _dl_start".  What is behind that takes the program's entry from
 * rax and finds its arguments on the stack: it runs all constructors, and then the program. */
#define ARCH_LOADER_RESUME 8
static inline bool arch_loader_resumes(const uint8_t *entry, size_t left)
{
    static const uint8_t begin[4] = {0x48, 0x89, 0xe7, 0xe8};
    static const uint8_t take_entry[3] = {0x49, 0x89, 0xc4};       /* mov %rax, %r12 */
    static const uint8_t take_count[4] = {0x48, 0x8b, 0x14, 0x24}; /* mov (%rsp), %rdx */
    static const uint8_t take_stack[3] = {0x49, 0x89, 0xe5};       /* mov %rsp, %r13 */
    const uint8_t *next = entry + ARCH_LOADER_RESUME + sizeof take_entry;

    return left >= 16 && __builtin_memcmp(entry, begin, sizeof begin) == 0 &&
           __builtin_memcmp(entry + ARCH_LOADER_RESUME, take_entry, sizeof take_entry) == 0 &&
           (__builtin_memcmp(next, take_count, sizeof take_count) == 0 ||
            __builtin_memcmp(next, take_stack, sizeof take_stack) == 0);
}

/* The thread pointer, and where from there glibc keeps what it has made of AT_RANDOM's 16 bytes: the
 * stack's canary, whose lowest byte is 0, and the pointer guard. */
#define ARCH_STACK_GUARD 0x28
#define ARCH_STACK_GUARD_MASK (~0xffUL)
#define ARCH_POINTER_GUARD 0x30
#define ARCH_RSEQ_SIGNATURE 0x53053053
static inline uintptr_t arch_thread(void)
{
    const long get_fs = 0x1003;
    uintptr_t thread = 0;

    sys2(SYS_arch_prctl, get_fs, (long)(uintptr_t)&thread);
    return thread;
}

static inline void arch_set_thread(uintptr_t thread)
{
    const long set_fs = 0x1002;

    sys2(SYS_arch_prctl, set_fs, (long)thread);
}

/* A jump to anywhere: movabs $target, %rax; jmp *%rax.  rax is dead at the entry of a function that
 * takes no variable arguments. */
#define ARCH_JUMP_BYTES 12
static inline void arch_write_jump(uint8_t *at, uintptr_t target)
{
    at[0] = 0x48;
    at[1] = 0xb8;
    for (int i = 0; i < 8; i++)
        at[2 + i] = (uint8_t)(target >> (8 * i));
    at[10] = 0xff;
    at[11] = 0xe0;
}

/* A jump to where a word says: jmp *word(%rip).  `word` is where that is, from here. */
#define ARCH_JUMP_THROUGH_BYTES 6
static inline void arch_write_jump_through(uint8_t *at, int64_t word)
{
    uint32_t displacement = (uint32_t)(word - ARCH_JUMP_THROUGH_BYTES);

    at[0] = 0xff;
    at[1] = 0x25;
    for (int i = 0; i < 4; i++)
        at[2 + i] = (uint8_t)(displacement >> (8 * i));
}

/* The stub behind patched mmap calls of ld.so, in arch_x86_64.S; see image.c. */
extern const char arch_loader_mmap[] __attribute__((visibility("hidden")));

/* The bytes of one instruction that only computes a register from registers, rax not among them, and
 * so does the same anywhere: mov, xor or movslq.  0: another one. */
static inline size_t arch_register_move(const uint8_t *code, size_t left)
{
    size_t prefix = left > 0 && (code[0] & 0xf0) == 0x40;
    uint8_t rex = prefix ? code[0] : 0;

    if (left < prefix + 2 || code[prefix + 1] < 0xc0)
        return 0;
    uint8_t opcode = code[prefix], registers = code[prefix + 1];
    if (opcode != 0x89 && opcode != 0x31 && opcode != 0x8b && opcode != 0x33 && opcode != 0x63)
        return 0;
    unsigned rm = (registers & 7U) | (rex & 1U) << 3;
    unsigned reg = (registers >> 3 & 7U) | (rex & 4U) << 1;
    return rm == 0 || reg == 0 ? 0 : prefix + 2; /* rax is another one in the trampoline */
}

/* "mov $9, %eax; ... syscall": mmap, as compilers write it, with register moves in between.  The
 * bytes of it, or 0. */
#define ARCH_MMAP_SITE_MIN 7
#define ARCH_MMAP_MOVES_MAX 12
static inline size_t arch_mmap_site(const uint8_t *code, size_t left)
{
    static const uint8_t number[5] = {0xb8, 9, 0, 0, 0};
    size_t at = 0, move;

    if (left < ARCH_MMAP_SITE_MIN)
        return 0;
    for (; at < sizeof number; at++)
        if (code[at] != number[at])
            return 0;
    while ((move = arch_register_move(code + at, left - at)) > 0 &&
           at + move <= sizeof number + ARCH_MMAP_MOVES_MAX)
        at += move;
    return at + 2 <= left && code[at] == 0x0f && code[at + 1] == 0x05 ? at + 2 : 0;
}

static inline void arch_put32(uint8_t *at, int64_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)((uint64_t)value >> (8 * i));
}

/* Turn the site into a jump to the trampoline at `island`, which does the moves, calls
 * arch_loader_mmap beyond the red zone of the function that it interrupts, and jumps back.  Both lie
 * in one image; offsets are from its start. */
#define ARCH_TRAMPOLINE_MAX (31 + ARCH_MMAP_MOVES_MAX)
static inline void arch_patch_mmap_site(uint8_t *image, size_t site, size_t site_bytes,
                                        size_t island)
{
    static const uint8_t down[5] = {0x48, 0x8d, 0x64, 0x24, 0x80};        /* lea -128(%rsp), %rsp */
    static const uint8_t up[8] = {0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0}; /* lea 128(%rsp), %rsp */
    uint8_t *code = image + site, *tramp = image + island;
    uintptr_t stub = (uintptr_t)arch_loader_mmap;
    size_t n = 0;

    for (size_t i = 5; i < site_bytes - 2; i++)
        tramp[n++] = code[i];
    for (size_t i = 0; i < sizeof down; i++)
        tramp[n++] = down[i];
    tramp[n++] = 0x49; /* movabs $stub, %r11; call *%r11 */
    tramp[n++] = 0xbb;
    for (int i = 0; i < 8; i++)
        tramp[n++] = (uint8_t)(stub >> (8 * i));
    tramp[n++] = 0x41;
    tramp[n++] = 0xff;
    tramp[n++] = 0xd3;
    for (size_t i = 0; i < sizeof up; i++)
        tramp[n++] = up[i];
    tramp[n++] = 0xe9; /* jmp behind the site */
    arch_put32(tramp + n, (int64_t)(site + site_bytes) - (int64_t)(island + n + 4));

    code[0] = 0xe9; /* jmp island */
    arch_put32(code + 1, (int64_t)island - (int64_t)(site + 5));
    for (size_t i = 5; i < site_bytes; i++)
        code[i] = 0x90;
}

#endif
