/* SPDX-License-Identifier: BSD-2-Clause
 *
 * arch_x86_64.S: the stub that stands in for the mmap system calls of a task's ld.so.
 *
 * It runs in the task, before the task has thread-local storage, and is called with the registers
 * of the system call: rdi address, rsi bytes, edx protection, r10 flags, r8 descriptor, r9 offset.
 * Like the call it changes rax, rcx and r11 only.  loader_mmap gets them as a struct loader_call, behind
 * them the address to which this returns: it tells of which task the calling code is.
 */
    .text
    .globl arch_loader_mmap
    .hidden arch_loader_mmap
    .type arch_loader_mmap, @function
arch_loader_mmap:
    push %rbp
    mov %rsp, %rbp
    push 8(%rbp)
    push %r9
    push %r8
    push %r10
    push %rdx
    push %rsi
    push %rdi
    mov %rsp, %rdi
    and $-16, %rsp
    call loader_mmap
    lea -56(%rbp), %rsp
    pop %rdi
    pop %rsi
    pop %rdx
    pop %r10
    pop %r8
    pop %r9
    mov %rbp, %rsp
    pop %rbp
    ret
    .size arch_loader_mmap, . - arch_loader_mmap
    .section .note.GNU-stack, "", @progbits
