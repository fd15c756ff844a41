/* usage: probe -m MODEL FLAGS... : the flags go through common_params_parse.
 * Loads a GGUF with the real llama.cpp, decodes one token, and prints what its graph hands to ggml_rope: the parameters of every
 * rope node and, computed by ggml itself on the CPU, cos*A and sin*A of each pair at the positions asked for.
 *
 * usage: rope_llamacpp_probe MODEL.gguf N_CTX POSITION...        (N_CTX 0: the model's own)
 * Output: one JSON object. Floats are the hex of their bits.
 */
#include "ggml.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "llama.h"
#include "common.h"
#include "arg.h"
#include <string>
#include <vector>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NODES 64

struct node {
  int32_t n_dims, mode, n_ctx_orig, head_dim;
  float freq_base, freq_scale, ext_factor, attn_factor, beta_fast, beta_slow;
  int n_factors;
  float factors[1024];
};

static struct node nodes[MAX_NODES];
static int n_nodes = 0;

static uint32_t bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}

static bool look(struct ggml_tensor* t, bool ask, void* user) {
  (void)user;
  if (t->op != GGML_OP_ROPE) return false;
  if (ask) return true;
  struct node n;
  memset(&n, 0, sizeof n);
  const int32_t* p = (const int32_t*)t->op_params;
  n.n_dims = p[1];
  n.mode = p[2];
  n.n_ctx_orig = p[4];
  memcpy(&n.freq_base, p + 5, 4);
  memcpy(&n.freq_scale, p + 6, 4);
  memcpy(&n.ext_factor, p + 7, 4);
  memcpy(&n.attn_factor, p + 8, 4);
  memcpy(&n.beta_fast, p + 9, 4);
  memcpy(&n.beta_slow, p + 10, 4);
  n.head_dim = (int32_t)t->ne[0];
  if (t->src[2]) {
    n.n_factors = (int)t->src[2]->ne[0];
    ggml_backend_tensor_get(t->src[2], n.factors, 0, sizeof(float) * n.n_factors);
  }
  for (int i = 0; i < n_nodes; i++)
    if (memcmp(&nodes[i], &n, sizeof n) == 0) return true;
  if (n_nodes < MAX_NODES) nodes[n_nodes++] = n;
  return true;
}

static void quiet(enum ggml_log_level level, const char* text, void* user) {
  (void)user;
  if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

/* cos*A and sin*A as ggml computes them: rotate the vectors (1, 0) of every pair. */
static void rotate(const struct node* n, int32_t position, float* cos_out, float* sin_out) {
  struct ggml_init_params ip = {16u << 20, NULL, false};
  struct ggml_context* ctx = ggml_init(ip);
  struct ggml_tensor* a = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, n->n_dims, 1, 1);
  struct ggml_tensor* b = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, 1);
  struct ggml_tensor* c = NULL;
  ((int32_t*)b->data)[0] = position;
  if (n->n_factors) {
    c = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, n->n_factors);
    memcpy(c->data, n->factors, sizeof(float) * n->n_factors);
  }
  float* x = (float*)a->data;
  for (int i = 0; i < n->n_dims / 2; i++) {
    x[2 * i] = 1.0f;
    x[2 * i + 1] = 0.0f;
  }
  struct ggml_tensor* r = ggml_rope_ext(ctx, a, b, c, n->n_dims, GGML_ROPE_TYPE_NORMAL, n->n_ctx_orig, n->freq_base,
                                        n->freq_scale, n->ext_factor, n->attn_factor, n->beta_fast, n->beta_slow);
  struct ggml_cgraph* g = ggml_new_graph(ctx);
  ggml_build_forward_expand(g, r);
  ggml_graph_compute_with_ctx(ctx, g, 1);
  const float* y = (const float*)r->data;
  for (int i = 0; i < n->n_dims / 2; i++) {
    cos_out[i] = y[2 * i];
    sin_out[i] = y[2 * i + 1];
  }
  ggml_free(ctx);
}

static void print_hex(const char* name, const float* v, int n) {
  printf("\"%s\": \"", name);
  for (int i = 0; i < n; i++) printf("%08x", bits(v[i]));
  printf("\"");
}

int main(int argc, char** argv) {
  common_params params;
  std::vector<char*> rest(argv, argv + argc);
  llama_log_set(quiet, NULL);
  if (!common_params_parse(argc, argv, params, LLAMA_EXAMPLE_PERPLEXITY)) {
    printf("{\"error\": \"parse\"}\n");
    return 1;
  }
  llama_backend_init();
  params.n_gpu_layers = 0;
  auto mp = common_model_params_to_llama(params);
  llama_model* model = llama_model_load_from_file(params.model.path.c_str(), mp);
  if (!model) {
    printf("{\"error\": \"load\"}\n");
    return 1;
  }
  auto cp = common_context_params_to_llama(params);
  cp.n_batch = 32;
  cp.n_ubatch = 32;
  cp.n_threads = 1;
  cp.n_threads_batch = 1;
  cp.cb_eval = look;
  cp.cb_eval_user_data = NULL;
  cp.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* ctx = llama_init_from_model(model, cp);
  if (!ctx) {
    printf("{\"error\": \"context\"}\n");
    return 1;
  }
  llama_token token = 1;
  llama_decode(ctx, llama_batch_get_one(&token, 1));
  printf("{\"n_ctx\": %u, \"nodes\": [", llama_n_ctx(ctx));
  static float c[4096], s[4096];
  for (int i = 0; i < n_nodes; i++) {
    const struct node* n = &nodes[i];
    printf(
        "%s{\"n_dims\": %d, \"n_ctx_orig\": %d, \"freq_base\": %.9g, \"freq_scale\": %.9g, \"ext_factor\": %.9g, "
        "\"attn_factor\": %.9g, \"beta_fast\": %.9g, \"beta_slow\": %.9g, \"positions\": [",
        i ? ", " : "", n->n_dims, n->n_ctx_orig, n->freq_base, n->freq_scale, n->ext_factor, n->attn_factor,
        n->beta_fast, n->beta_slow);
    int first = 1;
    for (int pos : {1, 1000}) {
      rotate(n, pos, c, s);
      printf("%s{\"position\": %d, ", first ? "" : ", ", pos);
      first = 0;
      print_hex("cos", c, n->n_dims / 2);
      printf(", ");
      print_hex("sin", s, n->n_dims / 2);
      printf("}");
    }
    printf("]}");
  }
  printf("]}\n");
  fflush(stdout);
  _Exit(0);
}
