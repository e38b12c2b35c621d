/* A prompt strategy in plain C: a fixed grid of boxes on every frame that is looked at.
 *
 *   cc -shared -fPIC -I runtime/plugin/include -o boxes.so runtime/plugin/examples/boxes.c
 *
 * Configuration: {"columns": 3, "rows": 2}, each 1 to 32. */
#include "tracklens_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "boxes"

struct boxes {
  long columns, rows;
  char error[200];
};

static char refusal[200];

/* The number behind "key": in the configuration. A real plug-in would use a JSON library. */
static long number(const char* config, const char* key, long otherwise) {
  const char* at = strstr(config, key);
  at = at ? strchr(at, ':') : NULL;
  return at ? strtol(at + 1, NULL, 10) : otherwise;
}

static void* create(const char* config) {
  long columns = number(config, "\"columns\"", 3), rows = number(config, "\"rows\"", 2);
  if (columns < 1 || columns > 32 || rows < 1 || rows > 32) {
    snprintf(refusal, sizeof refusal, "columns and rows should be 1 to 32, are %ld and %ld", columns, rows);
    return NULL;
  }
  struct boxes* boxes = calloc(1, sizeof *boxes);
  if (!boxes) {
    snprintf(refusal, sizeof refusal, "out of memory");
    return NULL;
  }
  boxes->columns = columns;
  boxes->rows = rows;
  return boxes;
}

static void destroy(void* instance) { free(instance); }

static const char* last_error(void* instance) {
  return instance ? ((struct boxes*)instance)->error : refusal;
}

/* ---- What comes in ---- */

/* A column of the input by name and format, null where there is none. */
static const struct ArrowArray* column(const struct ArrowArray* in, const struct ArrowSchema* schema,
                                       const char* name, const char* format) {
  for (int64_t at = 0; at < schema->n_children; at++) {
    const struct ArrowSchema* child = schema->children[at];
    if (!strcmp(child->name, name)) return strcmp(child->format, format) ? NULL : in->children[at];
  }
  return NULL;
}

/* Rows may begin at an offset, that of the struct array on top of the column's own. */
static uint32_t u32_at(const struct ArrowArray* in, const struct ArrowArray* column, int64_t row) {
  return ((const uint32_t*)column->buffers[1])[in->offset + column->offset + row];
}

static int bit_at(const struct ArrowArray* in, const struct ArrowArray* column, int64_t row) {
  int64_t at = in->offset + column->offset + row;
  return ((const uint8_t*)column->buffers[1])[at / 8] >> (at % 8) & 1;
}

/* ---- What goes out: the columns of `prompts`, as a tree of twelve nodes ---- */

enum { ROWS, ID, POINTS, POINT, COORDINATE, LABELS, LABEL, BOX, EDGE, MASK, SCORE, STRATEGY, NODES };

static const struct {
  const char *format, *name;
  int parent, flags;
  int64_t buffers;
} NODE[NODES] = {
    [ROWS] = {"+s", "", -1, 0, 1},
    [ID] = {"I", "prompt_id", ROWS, 0, 2},
    [POINTS] = {"+l", "points", ROWS, 0, 2},
    [POINT] = {"+w:2", "item", POINTS, 0, 1},
    [COORDINATE] = {"f", "item", POINT, 0, 2},
    [LABELS] = {"+l", "labels", ROWS, 0, 2},
    [LABEL] = {"c", "item", LABELS, 0, 2},
    [BOX] = {"+w:4", "box", ROWS, ARROW_FLAG_NULLABLE, 1},
    [EDGE] = {"f", "item", BOX, 0, 2},
    [MASK] = {"z", "mask", ROWS, ARROW_FLAG_NULLABLE, 3},
    [SCORE] = {"f", "score", ROWS, 0, 2},
    [STRATEGY] = {"u", "strategy", ROWS, 0, 3},
};

/* A tree is one piece of memory that goes when its last node has been released: who reads it may keep a
 * child longer than its parent. */
struct schema_tree {
  int users;
  struct ArrowSchema node[NODES], *children[NODES][7];
};

struct array_tree {
  int users;
  struct ArrowArray node[NODES], *children[NODES][7];
  const void* buffers[NODES][3];
  void* memory;
};

static void release_schema(struct ArrowSchema* node) {
  struct schema_tree* tree = node->private_data;
  for (int64_t at = 0; at < node->n_children; at++)
    if (node->children[at]->release) node->children[at]->release(node->children[at]);
  node->release = NULL;
  if (--tree->users == 0) free(tree);
}

static void release_array(struct ArrowArray* node) {
  struct array_tree* tree = node->private_data;
  for (int64_t at = 0; at < node->n_children; at++)
    if (node->children[at]->release) node->children[at]->release(node->children[at]);
  node->release = NULL;
  if (--tree->users == 0) {
    free(tree->memory);
    free(tree);
  }
}

/* Writes the schema; 0 where there is no memory. */
static int write_schema(struct ArrowSchema* out) {
  struct schema_tree* tree = calloc(1, sizeof *tree);
  if (!tree) return 0;
  tree->users = NODES;
  for (int at = 0; at < NODES; at++) {
    struct ArrowSchema* node = &tree->node[at];
    node->format = NODE[at].format;
    node->name = NODE[at].name;
    node->flags = NODE[at].flags;
    node->children = tree->children[at];
    node->release = release_schema;
    node->private_data = tree;
    if (at != ROWS) {
      struct ArrowSchema* parent = &tree->node[NODE[at].parent];
      parent->children[parent->n_children++] = node;
    }
  }
  *out = tree->node[ROWS]; /* the root moves to the host's struct; the children stay */
  return 1;
}

/* The values of `count` boxes, all in one piece of memory. */
struct values {
  uint32_t* id;
  float *edge, *score;
  int32_t *zero, *end; /* offsets of lists without items; ends of the texts */
  char* text;
};

static int allocate(struct values* values, size_t count, void** memory) {
  size_t words = count + 4 * count + count + (count + 1) + (count + 1);
  uint32_t* word = calloc(words * 4 + count * strlen(NAME) + 1, 1);
  if (!word) return 0;
  *memory = word;
  values->id = word;
  values->edge = (float*)(word + count);
  values->score = (float*)(word + 5 * count);
  values->zero = (int32_t*)(word + 6 * count);
  values->end = values->zero + count + 1;
  values->text = (char*)(values->end + count + 1);
  return 1;
}

/* Makes room for `count` prompts and writes their array; null where there is no memory. */
static struct array_tree* write_array(struct ArrowArray* out, int64_t count, struct values* values) {
  struct array_tree* tree = calloc(1, sizeof *tree);
  if (!tree || !allocate(values, (size_t)count, &tree->memory)) {
    free(tree);
    return NULL;
  }
  tree->users = NODES;
  for (int at = 0; at < NODES; at++) {
    struct ArrowArray* node = &tree->node[at];
    node->length = at == POINT || at == COORDINATE || at == LABEL ? 0 : at == EDGE ? 4 * count : count;
    node->n_buffers = NODE[at].buffers;
    node->buffers = tree->buffers[at];
    node->children = tree->children[at];
    node->release = release_array;
    node->private_data = tree;
    if (at != ROWS) {
      struct ArrowArray* parent = &tree->node[NODE[at].parent];
      parent->children[parent->n_children++] = node;
    }
  }
  tree->buffers[ID][1] = values->id;
  tree->buffers[POINTS][1] = tree->buffers[LABELS][1] = values->zero;
  tree->buffers[COORDINATE][1] = tree->buffers[LABEL][1] = values->zero;
  tree->buffers[EDGE][1] = values->edge;
  tree->buffers[MASK][0] = tree->buffers[MASK][1] = tree->buffers[MASK][2] = values->zero; /* all null */
  tree->node[MASK].null_count = count;
  tree->buffers[SCORE][1] = values->score;
  tree->buffers[STRATEGY][1] = values->end;
  tree->buffers[STRATEGY][2] = values->text;
  *out = tree->node[ROWS];
  return tree;
}

static int failed(struct boxes* boxes, const char* reason) {
  snprintf(boxes->error, sizeof boxes->error, "%s", reason);
  return TRACKLENS_ERROR;
}

static int process(void* instance, struct ArrowArray* in, struct ArrowSchema* in_schema, struct ArrowArray* out,
                   struct ArrowSchema* out_schema) {
  struct boxes* boxes = instance;
  const struct ArrowArray* look = column(in, in_schema, "look", "b");
  const struct ArrowArray* width = column(in, in_schema, "source_width", "I");
  const struct ArrowArray* height = column(in, in_schema, "source_height", "I");
  if (!look || !width || !height) return failed(boxes, "look, source_width or source_height is missing");

  int64_t each = boxes->columns * boxes->rows, count = 0;
  for (int64_t row = 0; row < in->length; row++) count += bit_at(in, look, row) ? each : 0;
  struct values values;
  if (!write_array(out, count, &values)) return failed(boxes, "out of memory");
  if (!write_schema(out_schema)) {
    out->release(out);
    return failed(boxes, "out of memory");
  }
  int64_t at = 0;
  for (int64_t row = 0; row < in->length; row++) {
    if (!bit_at(in, look, row)) continue;
    float w = (float)u32_at(in, width, row) / (float)boxes->columns;
    float h = (float)u32_at(in, height, row) / (float)boxes->rows;
    for (int64_t cell = 0; cell < each; cell++, at++) {
      float x = (float)(cell % boxes->columns), y = (float)(cell / boxes->columns);
      float edges[4] = {x * w, y * h, (x + 1) * w, (y + 1) * h};
      memcpy(values.edge + 4 * at, edges, sizeof edges);
      values.id[at] = (uint32_t)cell;
      values.score[at] = 0.5f;
      memcpy(values.text + at * (int64_t)strlen(NAME), NAME, strlen(NAME));
      values.end[at + 1] = (int32_t)((at + 1) * (int64_t)strlen(NAME));
    }
  }
  return TRACKLENS_OK;
}

const struct tracklens_plugin* tracklens_plugin(void) {
  static const struct tracklens_plugin table = {
      .magic = TRACKLENS_PLUGIN_MAGIC,
      .abi_version = TRACKLENS_PLUGIN_ABI_VERSION,
      .kind = TRACKLENS_PROMPT_STRATEGY,
      .name = NAME,
      .create = create,
      .process = process,
      .destroy = destroy,
      .last_error = last_error,
  };
  return &table;
}
