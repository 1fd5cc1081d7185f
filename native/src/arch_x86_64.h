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

#include <stddef.h>
#include <stdint.h>

#define ARCH_PAGE 4096UL
#define ARCH_HUGE_PAGE (2UL << 20)
#define ARCH_ELF_MACHINE 62 /* EM_X86_64 */

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

/* Enter a program as the kernel does after execve: rdx is what it registers with atexit. */
static inline __attribute__((noreturn)) void arch_enter(uintptr_t entry, uintptr_t stack)
{
    __asm__ volatile("mov %[stack], %%rsp\n\t"
                     "xor %%edx, %%edx\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "jmp *%[entry]"
                     :
                     : [entry] "a"(entry), [stack] "c"(stack)
                     : "memory");
    __builtin_unreachable();
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

/* The stub behind patched mmap calls of ld.so, in arch_x86_64.S; see image.c. */
extern const char arch_loader_mmap[] __attribute__((visibility("hidden")));

/* "mov $9, %eax; syscall": mmap, as every libc's compiler writes it. */
#define ARCH_MMAP_SITE_BYTES 7
static inline int arch_is_mmap_site(const uint8_t *code)
{
    static const uint8_t site[ARCH_MMAP_SITE_BYTES] = {0xb8, 9, 0, 0, 0, 0x0f, 0x05};
    for (int i = 0; i < ARCH_MMAP_SITE_BYTES; i++)
        if (code[i] != site[i])
            return 0;
    return 1;
}

static inline void arch_put32(uint8_t *at, int64_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)((uint64_t)value >> (8 * i));
}

/* Turn the site into a jump to the trampoline at `island`, which calls arch_loader_mmap beyond the
 * red zone of the function that it interrupts, and jumps back.  Both lie in one image; offsets are
 * from its start. */
#define ARCH_TRAMPOLINE_BYTES 31
static inline void arch_patch_mmap_site(uint8_t *image, size_t site, size_t island)
{
    uint8_t *code = image + site, *tramp = image + island;
    uintptr_t stub = (uintptr_t)arch_loader_mmap;
    static const uint8_t down[5] = {0x48, 0x8d, 0x64, 0x24, 0x80};        /* lea -128(%rsp), %rsp */
    static const uint8_t up[8] = {0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0}; /* lea 128(%rsp), %rsp */
    size_t n = 0;

    code[0] = 0xe9; /* jmp island */
    arch_put32(code + 1, (int64_t)island - (int64_t)(site + 5));
    code[5] = 0x66; /* xchg %ax, %ax */
    code[6] = 0x90;

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
    arch_put32(tramp + n, (int64_t)(site + ARCH_MMAP_SITE_BYTES) - (int64_t)(island + n + 4));
}

#endif
