/* QEMU TCG plugin: how often each instruction of the firmware ran and each branch was taken, and how often the flash was
   read past two small caches, from one mark to the next. Arguments: out=FILE, code=ADDRESS where code begins, mark=ADDRESS of an instruction (repeat).

   Caches as the accelerator of STM32L4+ has them (RM0432, 3.3.5 and 3.3.6): 32 lines for instructions and 8 for data, of
   four words of 64 bits each, least recently used line first; a word that is missing is read by itself.

   The header is not packaged everywhere: these are the declarations of version 1 of the interface that are used. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*exec_cb)(unsigned vcpu, void *data);
typedef void (*mem_cb)(unsigned vcpu, uint32_t info, uint64_t address, void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, exec_cb, int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, exec_cb, int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int op, void *ptr, uint64_t imm);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, mem_cb, int flags, int rw, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { CODE = 1 << 20, MOST_LINES = 32, MOST_MARKS = 64 };

static uint64_t counts[CODE / 2], taken[CODE / 2];
static uint64_t marks[MOST_MARKS], base;
static size_t mark_count;
static FILE *out;

struct cache {
    unsigned lines;
    uint64_t clock, misses;
    struct { uint64_t tag, used; uint8_t valid; } line[MOST_LINES];
};
static struct cache code = { .lines = 32 }, data = { .lines = 8 };

/* Reads the word of 64 bits with this number; whether it was missing. */
static bool touch(struct cache *c, uint64_t word)
{
    uint64_t tag = (word >> 2) + 1;
    unsigned bit = 1u << (word & 3), at = 0;
    for (unsigned i = 0; i < c->lines; i++) {
        if (c->line[i].tag == tag) {
            at = i;
            break;
        }
        if (c->line[i].used < c->line[at].used)
            at = i;
    }
    if (c->line[at].tag != tag) {
        c->line[at].tag = tag;
        c->line[at].valid = 0;
    }
    c->line[at].used = ++c->clock;
    if (!(c->line[at].valid & bit)) {
        c->line[at].valid |= bit;
        c->misses++;
        return true;
    }
    return false;
}

struct block { uint64_t start, last, end; };
static const struct block *previous;
/* The word of code that was read last, and how many were missing that stand behind the one before: those a prefetch
   has begun to read. */
static uint64_t fetched, sequential;

static void on_block(unsigned vcpu, void *user)
{
    const struct block *b = user;
    (void)vcpu;
    if (previous && previous->end != b->start && previous->last - base < CODE)
        taken[(previous->last - base) / 2]++;
    previous = b;
    for (uint64_t word = b->start / 8; word <= (b->end - 1) / 8; word++) {
        if (touch(&code, word) && word == fetched + 1)
            sequential++;
        fetched = word;
    }
}

/* "i CODE_MISSES SEQUENTIAL_ONES_OF_THEM DATA_MISSES", then "ADDRESS COUNT TAKEN" for every instruction that ran. */
static void report(void)
{
    fprintf(out, "i %llu %llu %llu\n", (unsigned long long)code.misses, (unsigned long long)sequential,
            (unsigned long long)data.misses);
    for (size_t i = 0; i < CODE / 2; i++)
        if (counts[i])
            fprintf(out, "%llx %llu %llu\n", (unsigned long long)(base + 2 * i), (unsigned long long)counts[i], (unsigned long long)taken[i]);
    fflush(out);
    memset(counts, 0, sizeof counts);
    memset(taken, 0, sizeof taken);
    code.misses = data.misses = sequential = 0;
}

static void on_access(unsigned vcpu, uint32_t info, uint64_t address, void *user)
{
    (void)vcpu, (void)info, (void)user;
    /* Flash: code and the model slot behind it. */
    if (address - base < 0x20000000)
        touch(&data, address / 8);
}

static void on_mark(unsigned vcpu, void *user)
{
    (void)vcpu, (void)user;
    report();
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);
    /* Lives as long as the emulator, which keeps the pointer. */
    struct block *b = malloc(sizeof *b);
    (void)id;
    if (!n || !b)
        return;
    b->start = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t at = qemu_plugin_insn_vaddr(insn);
        b->last = at;
        b->end = at + qemu_plugin_insn_size(insn);
        for (size_t m = 0; m < mark_count; m++)
            if (marks[m] == at)
                qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, 0, NULL);
        if (at - base < CODE)
            qemu_plugin_register_vcpu_insn_exec_inline(insn, 0, &counts[(at - base) / 2], 1);
        /* 3: reads and writes. Version 7.2 takes one for the other; nothing writes to flash. */
        qemu_plugin_register_vcpu_mem_cb(insn, on_access, 0, 3, NULL);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, 0, b);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
        else if (!strncmp(argv[i], "code=", 5))
            base = strtoull(argv[i] + 5, NULL, 0);
        else if (!strncmp(argv[i], "mark=", 5) && mark_count < MOST_MARKS)
            marks[mark_count++] = strtoull(argv[i] + 5, NULL, 0);
    }
    if (!out || !mark_count)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
