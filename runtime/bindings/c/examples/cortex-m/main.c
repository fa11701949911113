/* A network on a bare Cortex-M: runs it on recorded readings, lets it learn, saves, forgets and restores. Prints the bytes of each output and
 * the checksum of what was learned, in QEMU over semihosting. No C library: startup.c has all there is.
 *
 * scripts/c.sh --emulated builds it and runs it.
 */
#include <offshoot.h>

#include "board.h"

/* startup.c embeds the files; their lengths are what lies between two symbols. */
extern const uint8_t model_start[], model_end[], x_start[], x_end[], y_start[], y_end[];

/* Most elements of an input, and bytes of what is learned, that this program has room for. */
#define ELEMENTS 384
#define LEARNED 8192

static offshoot network;
static _Alignas(OFFSHOOT_ALIGNMENT) uint8_t arena[ARENA_BYTES];
static uint8_t saved[LEARNED];
static float values[ELEMENTS];

/* Stops with a message if a call failed. */
static void check(offshoot_status status, const char *call)
{
    if (status == OFFSHOOT_STATUS_OK)
        return;
    print(call);
    print(": ");
    print(offshoot_message(status));
    print(" (");
    print_hex(offshoot_detail(&network), 8);
    print(")\n");
    leave(1);
}

static void write_input(const uint8_t *readings, uint32_t elements)
{
    for (uint32_t i = 0; i < elements; i++)
        values[i] = readings[i];
    check(offshoot_write_input_f32(&network, 0, values, elements), "write");
}

static void print_output(void)
{
    offshoot_tensor output;
    check(offshoot_output(&network, 0, &output), "output");
    print("output:");
    for (uint32_t i = 0; i < output.bytes; i++) {
        print(" ");
        print_hex(((const uint8_t *)output.data)[i], 2);
    }
    print("\n");
}

int main(void)
{
    const size_t length = (size_t)(model_end - model_start), labels = (size_t)(y_end - y_start);
    check(offshoot_open_learning(&network, model_start, length, arena, sizeof arena), "open");
    offshoot_tensor input;
    check(offshoot_input(&network, 0, &input), "input");
    const uint32_t elements = input.elements;
    if (elements > ELEMENTS || (size_t)(x_end - x_start) < labels * elements) {
        print("the samples do not fit the model\n");
        return 1;
    }
    const size_t steps = labels < STEPS ? labels : STEPS;
    for (size_t i = 0; i < steps; i++) {
        write_input(x_start + i * elements, elements);
        check(offshoot_learn(&network, y_start[i], NULL), "learn");
        print_output();
    }
    size_t bytes;
    check(offshoot_save(&network, saved, sizeof saved, &bytes), "save");
    check(offshoot_forget(&network), "forget");
    check(offshoot_restore(&network, saved, bytes), "restore");
    for (size_t i = 0; i < 2 && i < steps; i++) {
        write_input(x_start + i * elements, elements);
        check(offshoot_run(&network), "run");
        print_output();
    }
    uint32_t crc;
    check(offshoot_crc32(saved, bytes, &crc), "crc32");
    print("learned: ");
    print_hex(crc, 8);
    print("\n");
    return 0;
}
