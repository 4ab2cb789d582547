#include "simulation.h"
void run_traffic(struct input *input) { (void) input; }
