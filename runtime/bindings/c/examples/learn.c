/* Learning from a stream: the network was trained for another machine than the one it hangs on. What it learns is saved in a file and
 * taken up again after a restart.
 *
 *   ./learn vibration_learns.off shifted_x.u8 shifted_y.u8 learned.bin     (in runtime/offshoot/examples/data)
 */
#include <offshoot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

static offshoot network;

/* Ends the program if a call failed. */
static void check(offshoot_status status, const char *call)
{
    if (status != OFFSHOOT_STATUS_OK) {
        fprintf(stderr, "%s: %s (%u)\n", call, offshoot_message(status), (unsigned)offshoot_detail(&network));
        exit(1);
    }
}

static void write_input(const uint8_t *readings, size_t elements)
{
    float *const values = calloc(elements, sizeof *values);
    for (size_t i = 0; i < elements; i++)
        values[i] = readings[i];
    check(offshoot_write_input_f32(&network, 0, values, elements), "write");
    free(values);
}

/* How many samples get the right class. */
static unsigned right(const uint8_t *x, const uint8_t *y, size_t count, size_t elements)
{
    unsigned found = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t answer;
        write_input(x + i * elements, elements);
        check(offshoot_run(&network), "run");
        check(offshoot_class(&network, &answer), "class");
        found += answer == y[i];
    }
    return found;
}

/* Saves what was learned, with its checksum. */
static void save(const char *path, size_t bytes)
{
    uint8_t *const learned = aligned(bytes);
    uint32_t crc;
    size_t written;
    check(offshoot_save(&network, learned, bytes, &written), "save");
    check(offshoot_crc32(learned, written, &crc), "crc32");
    FILE *const stream = fopen(path, "wb");
    if (stream == NULL || fwrite(&crc, sizeof crc, 1, stream) != 1 || fwrite(learned, 1, written, stream) != written
        || fclose(stream) != 0) {
        fprintf(stderr, "%s: cannot be written\n", path);
        exit(1);
    }
    printf("learned: %u bytes, checksum %08x\n", (unsigned)written, (unsigned)crc);
    free(learned);
}

/* Restores what was saved, if it is whole. */
static void restore(const char *path)
{
    const struct file file = read_file(path);
    uint32_t saved, crc;
    if (file.length < sizeof saved) {
        fprintf(stderr, "%s: too short\n", path);
        exit(1);
    }
    memcpy(&saved, file.bytes, sizeof saved);
    check(offshoot_crc32(file.bytes + sizeof saved, file.length - sizeof saved, &crc), "crc32");
    if (crc != saved) {
        fprintf(stderr, "%s: damaged\n", path);
        exit(1);
    }
    check(offshoot_restore(&network, file.bytes + sizeof saved, file.length - sizeof saved), "restore");
    free(file.bytes);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: learn MODEL.off X.u8 LABELS.u8 LEARNED.bin\n");
        return 2;
    }
    const struct file model = read_file(argv[1]), x = read_file(argv[2]), y = read_file(argv[3]);
    offshoot_model_info info;
    check(offshoot_inspect(model.bytes, model.length, &info), "inspect");
    const size_t bytes = info.learning_arena_bytes;
    uint8_t *const arena = aligned(bytes);
    check(offshoot_open_learning(&network, model.bytes, model.length, arena, bytes), "open");

    offshoot_tensor input;
    check(offshoot_input(&network, 0, &input), "input");
    const size_t elements = input.elements, half = y.length / 2;
    if (x.length != y.length * elements) {
        fprintf(stderr, "%s: one sample a label, please\n", argv[2]);
        return 1;
    }
    const uint8_t *const test_x = x.bytes + half * elements, *const test_y = y.bytes + half;
    const size_t tests = y.length - half;
    printf("before learning: %u of %u right\n", right(test_x, test_y, tests, elements), (unsigned)tests);
    for (size_t i = 0; i < half; i++) {
        write_input(x.bytes + i * elements, elements);
        check(offshoot_learn(&network, y.bytes[i], NULL), "learn");
    }
    printf("after %u steps: %u of %u right\n", (unsigned)half, right(test_x, test_y, tests, elements), (unsigned)tests);
    save(argv[4], info.learned_bytes);

    /* The power goes and comes back: nothing is left but the file. */
    check(offshoot_close(&network), "close");
    memset(arena, 0, bytes);
    check(offshoot_open_learning(&network, model.bytes, model.length, arena, bytes), "open");
    restore(argv[4]);
    printf("after a restart: %u of %u right\n", right(test_x, test_y, tests, elements), (unsigned)tests);
    return 0;
}
