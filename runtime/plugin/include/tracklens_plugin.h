/* TrackLens plug-ins, version 1 of the binary interface.
 *
 * A plug-in is a shared library that exports one function, `tracklens_plugin`, which returns a table that
 * lives as long as the library. The host loads it, reads magic and version, then the rest, makes one
 * instance for every stream, and has each instance turn batches of rows into other batches. Batches cross
 * by the Arrow C Data Interface (https://arrow.apache.org/docs/format/CDataInterface.html). Which columns
 * come and go is said in docs/plugins.md.
 *
 * All calls come from one thread, one after another. No exception and no longjmp may leave a function.
 * A library is never unloaded. */
#ifndef TRACKLENS_PLUGIN_H
#define TRACKLENS_PLUGIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The two structs of the Arrow C Data Interface, under the guard that all their users share. */
#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
  const char* format;
  const char* name;
  const char* metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema** children;
  struct ArrowSchema* dictionary;
  void (*release)(struct ArrowSchema*);
  void* private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void** buffers;
  struct ArrowArray** children;
  struct ArrowArray* dictionary;
  void (*release)(struct ArrowArray*);
  void* private_data;
};

#endif

#define TRACKLENS_PLUGIN_MAGIC 0x49504C54u
#define TRACKLENS_PLUGIN_ABI_VERSION 1u

/* What a plug-in does. */
enum {
  TRACKLENS_PROMPT_STRATEGY = 1, /* frames in, prompts out */
  TRACKLENS_DETECTOR = 2,        /* frames in, objects out: prompts with a box or a mask */
  TRACKLENS_ENHANCER = 3,        /* crops in, crops out */
  TRACKLENS_IDENTIFIER = 4       /* crops in, identifications out */
};

/* What `process` returns. */
enum {
  TRACKLENS_OK = 0,
  TRACKLENS_ERROR = 1, /* this batch has no result; the next one may have */
  TRACKLENS_PANIC = 2  /* the same, by a panic or an exception that was caught */
};

struct tracklens_plugin {
  uint32_t magic;       /* TRACKLENS_PLUGIN_MAGIC */
  uint32_t abi_version; /* TRACKLENS_PLUGIN_ABI_VERSION; magic and version come first in every version */
  uint32_t kind;        /* one of the kinds above */
  const char* name;     /* UTF-8; for logs, metrics and the column `strategy` */

  /* Makes an instance. `config` is JSON text that ends with the call, "{}" where nothing is set. Returns
   * any pointer but null, which the host hands back in all other calls; null if the configuration is
   * refused, and then last_error(NULL) says why. */
  void* (*create)(const char* config);

  /* Turns one batch into another: a struct array and its schema in, another struct array and its schema
   * out. Returns one of the codes above.
   *
   * In: read it as it stands; the host releases it after the call. Whoever wants to keep it moves it, as
   * the C Data Interface says: copy the struct and set its `release` to null.
   * Out: both structs are empty. On TRACKLENS_OK both are filled, each with a `release` of its own, which
   * the host calls once, perhaps after this instance has been destroyed. On any other code they are left
   * alone.
   *
   * The first batch of a library has no rows: its answer, also without rows, tells which columns come
   * back. */
  int (*process)(void* instance, struct ArrowArray* in, struct ArrowSchema* in_schema, struct ArrowArray* out,
                 struct ArrowSchema* out_schema);

  /* Ends an instance. */
  void (*destroy)(void* instance);

  /* What went wrong in the last call on this instance, or with null in the last `create`: UTF-8, one
   * sentence, valid until the next call; null if there is nothing to say. */
  const char* (*last_error)(void* instance);
};

/* The one function that a plug-in exports. */
const struct tracklens_plugin* tracklens_plugin(void);

#ifdef __cplusplus
}
#endif

#endif
