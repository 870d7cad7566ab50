/* The first process of the machine that tools/bochs/machine.py makes: runs the commands of the file /commands one
 * after another, says on the console how each ended, and switches the machine off.
 *
 * /commands: strings that end in NUL. First the working directory; then for each command its words, of which the first
 * ones may be NAME=VALUE for the environment, and an empty string. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/io.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define MAX_WORDS      64
#define MAX_COMMANDS   65536
#define KERNEL_LOG     1024
#define READ_ALL       3      /* klogctl */
#define POWER_OFF_PORT 0x8900 /* of Bochs, which wants to read this word there */
#define POWER_OFF_WORD "Shutdown"

static void switch_off(void)
{
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    if (iopl(3) == 0) {
        for (const char *p = POWER_OFF_WORD; *p; p++)
            outb((unsigned char)*p, POWER_OFF_PORT);
    }
    _exit(1); /* no such port: the kernel panics, which ends the machine too */
}

static void run(char **words)
{
    while (*words && strchr(*words, '='))
        putenv(*words++);
    if (!*words)
        _exit(127);
    execv(*words, words);
    perror(*words);
    _exit(127);
}

/* What the kernel says of a process that it ended: which instruction, where. */
static void print_kernel_log(void)
{
    static char text[KERNEL_LOG + 1];
    int n = klogctl(READ_ALL, text, KERNEL_LOG);
    if (n > 0)
        printf("the kernel's last words:\n%.*s\n", n, text);
}

static void run_and_report(char **words, int index)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        run(words);
    if (child < 0 || waitpid(child, &status, 0) < 0)
        status = 127 << 8;
    if (WIFSIGNALED(status)) {
        printf("ended by signal %d\n", WTERMSIG(status));
        print_kernel_log();
    }
    printf("\n@ command %d: %d\n", index, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static char *next_string(char **at, const char *end)
{
    char *s = *at, *nul = memchr(s, '\0', (size_t)(end - s));
    if (!nul)
        switch_off();
    *at = nul + 1;
    return s;
}

int main(void)
{
    static char text[MAX_COMMANDS];
    FILE *f = fopen("/commands", "rb");
    char *at = text, *end = text + (f ? fread(text, 1, sizeof text, f) : 0);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    if (chdir(next_string(&at, end)) != 0)
        perror("chdir");
    for (int index = 0; at < end; index++) {
        char *words[MAX_WORDS + 1] = {0};
        for (int n = 0;; n++) {
            char *word = next_string(&at, end);
            if (*word == '\0')
                break;
            if (n < MAX_WORDS)
                words[n] = word;
        }
        run_and_report(words, index);
    }
    switch_off();
}
