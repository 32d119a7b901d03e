/* The smallest task: a WASI command. argv[1] is the task's index; what is left in /out comes back as files. */
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: hello INDEX\n");
        return 2;
    }
    printf("hello from task %s\n", argv[1]);
    FILE *file = fopen("/out/hello.txt", "w");
    if (!file) {
        perror("/out/hello.txt");
        return 1;
    }
    fprintf(file, "hello from task %s\n", argv[1]);
    return fclose(file) ? 1 : 0;
}
