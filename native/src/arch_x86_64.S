/* SPDX-License-Identifier: BSD-2-Clause
 *
 * arch_x86_64.S: the stub that stands in for the mmap system calls of a task's ld.so.
 *
 * It runs in the task, before the task has thread-local storage, and is called with the registers
 * of the system call: rdi address, rsi bytes, edx protection, r10 flags, r8 descriptor, r9 offset.
 * Like the call it changes rax, rcx and r11 only.  A given address goes to the kernel as it is;
 * otherwise ledger_loader_mmap places it in the window of the task to which the calling code, and
 * so the return address, belongs.
 *
 * Text is mapped with MAP_NORESERVE.  The preload makes pages of libc's writable for a moment, and
 * the kernel would from then on account for them (VM_ACCOUNT) and not for their neighbours, so that
 * one mapping would stay three.
 */
    .text
    .globl arch_loader_mmap
    .hidden arch_loader_mmap
    .type arch_loader_mmap, @function
arch_loader_mmap:
    test %rdi, %rdi
    jnz 1f
    mov (%rsp), %rdi
    push %rbp
    mov %rsp, %rbp
    push %rsi
    push %rdx
    push %r8
    push %r9
    push %r10
    and $-16, %rsp
    mov %r10, %rcx
    call ledger_loader_mmap
    lea -40(%rbp), %rsp
    pop %r10
    pop %r9
    pop %r8
    pop %rdx
    pop %rsi
    pop %rbp
    xor %edi, %edi
    ret
1:
    push %r10
    test $4, %dl
    jz 2f
    or $0x4000, %r10d
2:
    mov $9, %eax
    syscall
    pop %r10
    ret
    .size arch_loader_mmap, . - arch_loader_mmap
    .section .note.GNU-stack, "", @progbits
