/* Files and arenas of the examples for a host: aligned as the library needs them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct file {
    uint8_t *bytes;
    size_t length;
};

/* Memory at a multiple of OFFSHOOT_ALIGNMENT. */
static inline uint8_t *aligned(size_t bytes)
{
    const size_t whole = (bytes + OFFSHOOT_ALIGNMENT - 1) / OFFSHOOT_ALIGNMENT * OFFSHOOT_ALIGNMENT;
    uint8_t *const memory = aligned_alloc(OFFSHOOT_ALIGNMENT, whole + OFFSHOOT_ALIGNMENT);
    if (memory == NULL) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    return memory;
}

static inline struct file read_file(const char *path)
{
    FILE *const stream = fopen(path, "rb");
    long length = -1;
    if (stream != NULL && fseek(stream, 0, SEEK_END) == 0)
        length = ftell(stream);
    if (length < 0 || fseek(stream, 0, SEEK_SET) != 0) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    const struct file file = {aligned((size_t)length), (size_t)length};
    if (fread(file.bytes, 1, file.length, stream) != file.length) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    fclose(stream);
    return file;
}
