#include "formats/gguf_model.h"
