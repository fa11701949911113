/* The runtime of Offshoot for C and C++: runs networks in `.off` files, and lets them learn.
   Written by cbindgen from runtime/bindings/c/src. The guide is docs/src/c.md.
   Licence: MIT or Apache-2.0, at your option. */

#ifndef OFFSHOOT_H
#define OFFSHOOT_H

/* Written by cbindgen (scripts/c.sh --header). Do not edit. */

#include <stddef.h>
#include <stdint.h>

/* What every call keeps and asks for.
   - A status, never a crash: null and misaligned pointers, lengths that do not fit, memory that overlaps, damaged files, and calls on an
     object that is not open give a status. offshoot_message says what it means; offshoot_detail has the number that goes with it.
   - A pointer that is neither null nor misaligned points to as many valid bytes as the call says. An object is zeroed before its first
     use (a static is). Model and arena stay where they are, and the model unchanged, until the object is closed or opened anew.
   - Different objects with different arenas may be used by different threads at once; one object by one thread at a time. Objects may
     share a model.
   - Nothing is allocated, and there is no global state. */

/*
 Version of this interface. It rises when a function or a structure changes.
 */
#define OFFSHOOT_ABI_VERSION 1

/*
 Alignment of model and arena, in bytes.
 */
#define OFFSHOOT_ALIGNMENT 16

/*
 Words of an object.
 */
#define OFFSHOOT_OBJECT_WORDS 64

/*
 What a call came to. New codes may be added; the number of a code does not change.
 */
enum offshoot_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     The call did what it says.
     */
    OFFSHOOT_STATUS_OK = 0,
    /*
     A pointer is null.
     */
    OFFSHOOT_STATUS_NULL_POINTER = 1,
    /*
     A pointer is not aligned: model and arena to 16 bytes, others to their type.
     */
    OFFSHOOT_STATUS_ALIGNMENT = 2,
    /*
     So many elements do not fit the address space.
     */
    OFFSHOOT_STATUS_TOO_LONG = 3,
    /*
     Memory overlaps that must not: object, model, arena, and the buffers of the caller.
     */
    OFFSHOOT_STATUS_OVERLAP = 4,
    /*
     The object is not open, was not zeroed before its first use, or a call on it has not returned.
     */
    OFFSHOOT_STATUS_NOT_OPEN = 5,
    /*
     The buffer is too small. The detail is the number of bytes needed.
     */
    OFFSHOOT_STATUS_BUFFER_TOO_SMALL = 6,
    /*
     The bytes are no `.off` file.
     */
    OFFSHOOT_STATUS_NOT_OFF = 10,
    /*
     This release does not read the file's format version. The detail is that version.
     */
    OFFSHOOT_STATUS_VERSION = 11,
    /*
     The file, or what was learned, has another length than it should.
     */
    OFFSHOOT_STATUS_LENGTH = 12,
    /*
     The checksum does not match: the file is damaged.
     */
    OFFSHOOT_STATUS_CHECKSUM = 13,
    /*
     The library was built without features that the file needs. The detail is their mask.
     */
    OFFSHOOT_STATUS_REQUIRES = 14,
    /*
     The description of an input or output is invalid. The detail is its index.
     */
    OFFSHOOT_STATUS_IO = 15,
    /*
     The library does not know an operator, or was built without it. The detail is the operator's index.
     */
    OFFSHOOT_STATUS_UNKNOWN_OPERATOR = 16,
    /*
     The record of an operator cannot be decoded. The detail is the operator's index.
     */
    OFFSHOOT_STATUS_RECORD = 17,
    /*
     An operator breaks a rule of its kind. The detail is the operator's index.
     */
    OFFSHOOT_STATUS_INVALID = 18,
    /*
     The arena is too small. The detail is the number of bytes needed.
     */
    OFFSHOOT_STATUS_ARENA_TOO_SMALL = 20,
    /*
     The network has no such input or output.
     */
    OFFSHOOT_STATUS_NO_SUCH_TENSOR = 21,
    /*
     The input or output has another element type.
     */
    OFFSHOOT_STATUS_TENSOR_TYPE = 22,
    /*
     The input or output has another number of elements. The detail is that number.
     */
    OFFSHOOT_STATUS_TENSOR_LENGTH = 23,
    /*
     The file has no such network. The detail is the number of networks.
     */
    OFFSHOOT_STATUS_NO_SUCH_NETWORK = 24,
    /*
     A learning record breaks a rule, or what was learned does not fit it. The detail is its index, 255 for what all share.
     */
    OFFSHOOT_STATUS_LEARN = 30,
    /*
     The model has no learning records, or was opened for inference only.
     */
    OFFSHOOT_STATUS_NOT_LEARNING = 31,
    /*
     The call is not possible while the model learns.
     */
    OFFSHOOT_STATUS_LEARNING = 32,
    /*
     The model has no such class. The detail is the number of classes.
     */
    OFFSHOOT_STATUS_LABEL = 33,
    /*
     A bug in the runtime. The object is closed.
     */
    OFFSHOOT_STATUS_BUG = 99,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum offshoot_status offshoot_status;
#else
typedef int32_t offshoot_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 Type of a tensor's elements.
 */
enum offshoot_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     int8: q stands for `(q - zero_point) * scale`.
     */
    OFFSHOOT_TYPE_I8 = 0,
    /*
     float32.
     */
    OFFSHOOT_TYPE_F32 = 1,
    /*
     int32.
     */
    OFFSHOOT_TYPE_I32 = 2,
    /*
     int16: q stands for `q * scale`.
     */
    OFFSHOOT_TYPE_I16 = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum offshoot_type offshoot_type;
#else
typedef int32_t offshoot_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 What a model is and needs.
 */
typedef struct offshoot_model_info {
    /*
     Bytes of the file.
     */
    uint32_t file_bytes;
    /*
     Bytes of arena for inference, for every network of the file.
     */
    uint32_t arena_bytes;
    /*
     Bytes of arena for learning, inference included; 0 if nothing learns.
     */
    uint32_t learning_arena_bytes;
    /*
     Bytes of what is learned, which `offshoot_save` writes; 0 if nothing learns.
     */
    uint32_t learned_bytes;
    /*
     Number of classes that a label may name; 0 if nothing learns.
     */
    uint32_t classes;
    /*
     Number of inputs of the first network.
     */
    uint32_t inputs;
    /*
     Number of outputs of the first network.
     */
    uint32_t outputs;
    /*
     Number of networks in the file: 1, and the sub-networks that share its weights.
     */
    uint32_t networks;
    /*
     1 if a run depends on earlier runs, else 0.
     */
    uint32_t keeps_state;
} offshoot_model_info;

/*
 A network and its arena. What is in it is the library's own. Zero it before the first use; do not copy or move it while it is open.
 */
typedef struct offshoot {
    /*
     Not for the caller.
     */
    uint64_t words[OFFSHOOT_OBJECT_WORDS];
} offshoot;

/*
 Report of a train step.
 */
typedef struct offshoot_step {
    /*
     The class predicted before learning from the sample; -1 if nothing gives class scores.
     */
    int32_t guess;
    /*
     Steps so far, this one included.
     */
    uint32_t steps;
    /*
     1 if the sample was left out, because it is not finite or much farther from the others than is usual, else 0.
     */
    uint32_t left_out;
} offshoot_step;

/*
 Called after each operator with the context of `offshoot_run_watched` and the operator's index: to feed a watchdog, say. It must
 return, and must not use the object.
 */
typedef void (*offshoot_watcher)(void *context, uint32_t op);

/*
 An input or output in the arena, channels last.
 */
typedef struct offshoot_tensor {
    /*
     Where it lies, aligned to its elements. Write an input before every run; read an output before the next input is written.
     */
    void *data;
    /*
     Bytes at `data`.
     */
    uint32_t bytes;
    /*
     Number of elements.
     */
    uint32_t elements;
    /*
     Type of the elements.
     */
    offshoot_type element_type;
    /*
     Number of axes, at most 6.
     */
    uint32_t rank;
    /*
     Extents. Axes from `rank` on are 1.
     */
    uint32_t shape[6];
    /*
     Scale of an int8 or int16 tensor, else 0.
     */
    float scale;
    /*
     Zero point of an int8 tensor, else 0.
     */
    int32_t zero_point;
} offshoot_tensor;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Validates a file and says what it needs. Allocates nothing and keeps nothing.

 # Safety
 `model` points to `model_bytes` bytes, `info` to memory for the result.
 */
offshoot_status offshoot_inspect(const uint8_t *model, size_t model_bytes, struct offshoot_model_info *info);

/*
 Version of the interface that the library has. A program compares it with `OFFSHOOT_ABI_VERSION` of its header.
 */
uint32_t offshoot_abi_version(void);

/*
 Version of the library, such as "0.1.0".
 */
const char *offshoot_version(void);

/*
 Version of the `.off` format that the library reads.
 */
uint32_t offshoot_format_version(void);

/*
 CRC-32 (IEEE) of bytes: to save with what was learned, and to tell models apart. Writes to `crc`.

 # Safety
 `data` points to `bytes` bytes, `crc` to memory for the result.
 */
offshoot_status offshoot_crc32(const uint8_t *data, size_t bytes, uint32_t *crc);

/*
 One train step on the inputs, towards class `label`. It overwrites the inputs; outputs are as after a run. `step` may be null.

 # Safety
 As for every call; `step` is null or points to memory for the result.
 */
offshoot_status offshoot_learn(struct offshoot *network,
                               uint32_t label,
                               struct offshoot_step *step);

/*
 A run without a label: the input statistics follow the data, unless the sample is an outlier; nothing else learns. `left_out`, which
 may be null, becomes 1 if the sample was left out, else 0.

 # Safety
 As for every call; `left_out` is null or points to memory for the result.
 */
offshoot_status offshoot_observe(struct offshoot *network,
                                 uint32_t *left_out);

/*
 Stretches or shortens the plan's course to so many steps; 0 goes back to the plan's. Saved and restored with what is learned.

 # Safety
 As for every call.
 */
offshoot_status offshoot_set_course(struct offshoot *network,
                                    uint32_t steps);

/*
 After a run, the class that the classifier head answers, if it has learned one; else the largest element of output 0.

 # Safety
 As for every call; `class_index` points to memory for the result.
 */
offshoot_status offshoot_class(struct offshoot *network,
                               uint32_t *class_index);

/*
 After a run, the class scores of the classifier head, where they lie in the arena: valid until the next call. Minus infinity for classes
 without samples. A model that learns without a head gives null and 0.

 # Safety
 As for every call; `scores` and `count` point to memory for the results.
 */
offshoot_status offshoot_scores(struct offshoot *network,
                                const float **scores,
                                size_t *count);

/*
 Where what was learned lies in the arena, to save without a copy: valid until the next call.

 # Safety
 As for every call; `learned` and `bytes` point to memory for the results.
 */
offshoot_status offshoot_learned(struct offshoot *network, const void **learned, size_t *bytes);

/*
 Copies what was learned to a buffer of `capacity` bytes. `written`, which may be null, becomes the number of bytes.

 # Safety
 As for every call; `to` points to memory for `capacity` bytes, `written` is null or points to memory for the result.
 */
offshoot_status offshoot_save(struct offshoot *network,
                              uint8_t *to,
                              size_t capacity,
                              size_t *written);

/*
 Restores what `offshoot_save` wrote for the same model: the next steps give the same bits as without a break. Bytes that the network
 cannot take are refused, and the object is then as after `offshoot_forget`. Damage that leaves valid weights is not seen: save a
 checksum too (`offshoot_crc32`).

 # Safety
 As for every call; `learned` points to `bytes` bytes.
 */
offshoot_status offshoot_restore(struct offshoot *network,
                                 const uint8_t *learned,
                                 size_t bytes);

/*
 Forgets everything learned: goes back to the weights of the file, or to what the file has learned.

 # Safety
 As for every call.
 */
offshoot_status offshoot_forget(struct offshoot *network);

/*
 Opens a model for inference: validates the whole file, and clears the arena. An object that was open is closed first.

 `model` and `arena` begin at a multiple of 16. `offshoot_inspect` says how large the arena must be.

 # Safety
 `network` was zeroed before its first use. Model and arena stay where they are, and nobody changes the model, until the object is
 closed.
 */
offshoot_status offshoot_open(struct offshoot *network,
                              const uint8_t *model,
                              size_t model_bytes,
                              uint8_t *arena,
                              size_t arena_bytes);

/*
 As `offshoot_open`, for a model with a learning plan: runs and train steps in one arena, of `learning_arena_bytes`.

 # Safety
 As `offshoot_open`.
 */
offshoot_status offshoot_open_learning(struct offshoot *network,
                                       const uint8_t *model,
                                       size_t model_bytes,
                                       uint8_t *arena,
                                       size_t arena_bytes);

/*
 Closes an object. Its memory, model and arena are the caller's again. Closing what is not open does nothing.

 # Safety
 As for every call: a pointer that is neither null nor misaligned is an object.
 */
offshoot_status offshoot_close(struct offshoot *network);

/*
 The number that goes with the status of the last call on this object, as the status says; else 0.

 # Safety
 As for every call: a pointer that is neither null nor misaligned is an object.
 */
uint32_t offshoot_detail(const struct offshoot *network);

/*
 Bytes of an object: at most `sizeof(offshoot)`, for a caller that does not see the header's structure.
 */
size_t offshoot_size(void);

/*
 Alignment of an object, in bytes.
 */
size_t offshoot_align(void);

/*
 Runs the network on its inputs. A run overwrites them: write them before every run.

 # Safety
 As for every call.
 */
offshoot_status offshoot_run(struct offshoot *network);

/*
 As `offshoot_run`; calls `watcher` after each operator.

 # Safety
 As for every call; `watcher` may be called with `context`.
 */
offshoot_status offshoot_run_watched(struct offshoot *network, offshoot_watcher watcher, void *context);

/*
 Resets operators that keep their state from run to run: the next run starts a new sequence.

 # Safety
 As for every call.
 */
offshoot_status offshoot_restart(struct offshoot *network);

/*
 Switches to network `index` of the file, without copying or checking anything. Write the inputs anew afterwards; recurrent layers that
 keep their state restart. Only network 0 learns.

 # Safety
 As for every call.
 */
offshoot_status offshoot_select(struct offshoot *network,
                                size_t index);

/*
 What a status means, as a text that is never null and never freed. A number that is no status has a text too.
 */
const char *offshoot_message(int32_t status);

/*
 Describes input `index` of the selected network, and says where it lies.

 # Safety
 As for every call; `tensor` points to memory for the result.
 */
offshoot_status offshoot_input(struct offshoot *network, size_t index, struct offshoot_tensor *tensor);

/*
 Describes output `index` of the selected network, and says where it lies.

 # Safety
 As for every call; `tensor` points to memory for the result.
 */
offshoot_status offshoot_output(struct offshoot *network, size_t index, struct offshoot_tensor *tensor);

/*
 Writes real numbers to input `index`, one per element, channels last. An int8 input quantises them: `round(x / scale) + zero_point`,
 ties away from zero, clamped to -128 to 127; NaN becomes the zero point. An int32 input rounds the same way, without a scale.

 # Safety
 As for every call; `values` points to `count` numbers.
 */
offshoot_status offshoot_write_input_f32(struct offshoot *network,
                                         size_t index,
                                         const float *values,
                                         size_t count);

/*
 Reads output `index` as real numbers, one per element, channels last. An int8 output gives `(q - zero_point) * scale`.

 # Safety
 As for every call; `values` points to memory for `count` numbers.
 */
offshoot_status offshoot_read_output_f32(struct offshoot *network,
                                         size_t index,
                                         float *values,
                                         size_t count);

/*
 Writes the index of the largest element of output `index` to `class_index`. Ties go to the lowest; NaN is never the largest.

 # Safety
 As for every call; `class_index` points to memory for the result.
 */
offshoot_status offshoot_top1(struct offshoot *network,
                              size_t index,
                              uint32_t *class_index);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* OFFSHOOT_H */
