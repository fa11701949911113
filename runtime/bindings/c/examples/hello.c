/* A network in a program: readings of an accelerometer go in, the state of the machine comes out.
 *
 *   scripts/c.sh --host
 *   cc -I runtime/bindings/c/include runtime/bindings/c/examples/hello.c target/c/HOST/liboffshoot.a -lpthread -ldl -lm -o hello
 *   ./hello runtime/offshoot/examples/data/vibration.off runtime/offshoot/examples/data/vibration_x.u8
 */
#include <offshoot.h>
#include <stdio.h>
#include <stdlib.h>

#include "files.h"

static const char *const STATES[] = {"normal", "imbalance", "misalignment", "looseness", "bearing"};

/* Ends the program if a call failed. */
static void check(const offshoot *network, offshoot_status status, const char *call)
{
    if (status != OFFSHOOT_STATUS_OK) {
        fprintf(stderr, "%s: %s (%u)\n", call, offshoot_message(status), (unsigned)offshoot_detail(network));
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: hello MODEL.off READINGS.u8\n");
        return 2;
    }
    if (offshoot_abi_version() != OFFSHOOT_ABI_VERSION) {
        fprintf(stderr, "the library is not the header's\n");
        return 1;
    }
    const struct file model = read_file(argv[1]), readings = read_file(argv[2]);

    /* What the network needs, before anything is allocated. */
    static offshoot network;
    offshoot_model_info info;
    check(&network, offshoot_inspect(model.bytes, model.length, &info), "inspect");
    uint8_t *const arena = aligned(info.arena_bytes);
    check(&network, offshoot_open(&network, model.bytes, model.length, arena, info.arena_bytes), "open");

    offshoot_tensor input, output;
    check(&network, offshoot_input(&network, 0, &input), "input");
    check(&network, offshoot_output(&network, 0, &output), "output");
    float *const values = calloc(input.elements, sizeof *values);
    for (size_t at = 0; at + input.elements <= readings.length; at += input.elements) {
        for (size_t i = 0; i < input.elements; i++)
            values[i] = readings.bytes[at + i];
        check(&network, offshoot_write_input_f32(&network, 0, values, input.elements), "write");
        check(&network, offshoot_run(&network), "run");
        uint32_t state;
        check(&network, offshoot_top1(&network, 0, &state), "top1");
        printf("state %u%s%s:", (unsigned)state, state < 5 ? ", " : "", state < 5 ? STATES[state] : "");
        for (uint32_t i = 0; i < output.bytes; i++)
            printf(" %02x", ((const uint8_t *)output.data)[i]);
        printf("\n");
    }
    printf("%u bytes of flash, %u of RAM\n", (unsigned)info.file_bytes, (unsigned)info.arena_bytes);
    return 0;
}
