/* Start-up of a bare Cortex-M in QEMU (mps2-an386: Cortex-M4 with an FPU), the files as constants, and semihosting. */
#include "board.h"

extern uint32_t stack_top[], data_load[], data_start[], data_end[], bss_start[], bss_end[];
int main(void);

/* One call of the debugger: Arm's semihosting. */
static int semihosting(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void print(const char *text)
{
    semihosting(0x04, text); /* SYS_WRITE0 */
}

void print_hex(uint32_t number, int digits)
{
    char text[9];
    for (int i = 0; i < digits; i++)
        text[i] = "0123456789abcdef"[number >> 4 * (digits - 1 - i) & 15];
    text[digits] = 0;
    print(text);
}

_Noreturn void leave(int code)
{
    /* SYS_EXIT_EXTENDED: ADP_Stopped_ApplicationExit and the exit code. */
    const uint32_t reason[2] = {0x20026, (uint32_t)code};
    semihosting(0x20, reason);
    for (;;)
        ;
}

_Noreturn void reset(void)
{
#if defined(__ARM_FP)
    /* Coprocessors 10 and 11: the FPU is off after a reset. Before the first instruction that uses it. */
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;
    __asm__ volatile("dsb\nisb");
#endif
    for (uint32_t *to = data_start, *from = data_load; to < data_end;)
        *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;)
        *to++ = 0;
    leave(main());
}

_Noreturn static void fault(void)
{
    print("fault\n");
    leave(3);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (const void *)reset, (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault,
};

/* The files lie in flash, the model at a multiple of 16. */
#define EMBED(name, path)                                                                                                       \
    __asm__(".section .rodata." #name ", \"a\"\n.balign 16\n.global " #name "_start\n" #name "_start: .incbin \"" path          \
            "\"\n.global " #name "_end\n" #name "_end: .byte 0\n.previous\n")

EMBED(model, MODEL);
EMBED(x, X);
EMBED(y, Y);
