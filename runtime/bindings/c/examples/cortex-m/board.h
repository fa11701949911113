/* What the program has of the board: a console and an end, both by semihosting. */
#include <stdint.h>

void print(const char *text);
void print_hex(uint32_t number, int digits);
_Noreturn void leave(int code);
