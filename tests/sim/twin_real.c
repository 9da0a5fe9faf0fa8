#include "sim_twin.h"

const struct twin twin_real = TWIN_TABLE;
