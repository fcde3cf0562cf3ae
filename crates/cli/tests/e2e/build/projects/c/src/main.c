#include <stdio.h>
#include <string.h>

#include "words.h"

static const char *built_by = "nobody";

int main(int argc, char **argv) {
	const char *name = argc > 1 ? argv[1] : "world";
	if (strcmp(name, "--health") == 0)
		return 0;
	printf("%s %s from c, built by %s\n", greeting(), name, built_by);
	return 0;
}
