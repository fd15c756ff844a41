#include "verify/sweep.h"
