/* The driver: it replays files of a corpus, and makes inputs from a seed, at random and by changing those of the
 * corpus.
 *
 *     fuzz [--seconds S] [--runs N] [--seed N] [--save FILE] [--checks [NAME]] [--target raw|traffic|login] [FILE...]
 *     fuzz --without-memory N [--save FILE] FILE...
 *
 * With --without-memory each file is replayed so that its first allocation fails, then its second, and so on up to the N-th.
 * A run is made from the seed, its number and the files alone. When a promise is broken, the input is saved, and
 * replayed by giving its file. With clang's -fsanitize=fuzzer, LLVMFuzzerTestOneInput takes the place of this. */
#include "simulation.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The first byte of an input chooses the target: those of login are 0xe0 to 0xef, and of the others the odd ones are those of
 * traffic. */
enum { RAW, TRAFFIC, LOGIN = 0xe };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input input = {bytes, bytes + size};

    unsigned target = draw(&input, 256);

    if (target >> 4 == LOGIN)
        run_login(&input);
    else if (target % 2)
        run_traffic(&input);
    else
        run_raw(&input);
    return 0;
}

const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "quarantine_size_mb=32:allocator_release_to_os_interval_ms=-1:max_free_fill_size=0:max_malloc_fill_size=64";
}

#ifndef WITH_LIBFUZZER

enum { INPUT_MAX = 4096 };

static struct bytes *files;
static size_t file_count;
static uint8_t current[1 << 16];
static size_t current_size;
static uint64_t seed = 1, run;
static const char *save = "failure.bin";

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void on_death(void)
{
    FILE *file = fopen(save, "wb");

    if (file) {
        fwrite(current, 1, current_size, file);
        fclose(file);
    }
    fprintf(stderr, "seed %llu, run %llu: the input was saved to %s\n", (unsigned long long) seed,
            (unsigned long long) run, save);
}

static void on_abort(int number)
{
    (void) number;
    on_death();
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static void make_random(uint64_t *state)
{
    current_size = 1 + next_random(state) % (next_random(state) % 4 ? 300 : 3000);
    for (size_t i = 0; i < current_size; i++)
        current[i] = (uint8_t) next_random(state);
}

static void make_mutation(uint64_t *state)
{
    const struct bytes *file = &files[next_random(state) % file_count];

    current_size = bytes_left(file) < INPUT_MAX ? bytes_left(file) : INPUT_MAX;
    if (current_size)
        memcpy(current, file->all, current_size);
    for (uint64_t changes = 1 + next_random(state) % 8; changes && current_size; changes--) {
        size_t at = next_random(state) % current_size, other = next_random(state) % current_size;
        size_t count = 1 + next_random(state) % 16;
        switch (next_random(state) % 5) {
        case 0:
            current[at] = (uint8_t) next_random(state);
            break;
        case 1:
            current[at] ^= (uint8_t) (1 << next_random(state) % 8);
            break;
        case 2: /* take some out */
            count = count < current_size - at ? count : current_size - at;
            memmove(current + at, current + at + count, current_size - at - count);
            current_size -= count;
            break;
        case 3: /* repeat some */
            count = count < current_size - other ? count : current_size - other;
            if (current_size + count > INPUT_MAX)
                break;
            memmove(current + at + count, current + at, current_size - at);
            if (other >= at)
                other += count;
            if (other + count > current_size + count)
                count = current_size - other + count;
            memmove(current + at, current + other, count);
            current_size += count;
            break;
        default: /* the end of another */
            file = &files[next_random(state) % file_count];
            other = bytes_left(file) ? next_random(state) % bytes_left(file) : 0;
            count = bytes_left(file) - other;
            if (at + count > INPUT_MAX)
                count = INPUT_MAX - at;
            if (count)
                memcpy(current + at, file->all + other, count);
            current_size = at + count;
        }
    }
}

static void replay(size_t file)
{
    current_size = bytes_left(&files[file]) < sizeof current ? bytes_left(&files[file]) : sizeof current;
    if (current_size)
        memcpy(current, files[file].all, current_size);
    LLVMFuzzerTestOneInput(current, current_size);
}

static void replay_without_memory(uint64_t most)
{
    for (size_t i = 0; i < file_count; i++)
        for (each_fails_in = 1; each_fails_in <= most; each_fails_in++) {
            replay(i);
            if (!memory.failed)
                break; /* it has fewer allocations, or is never without memory */
            run++;
        }
    printf("%zu files, %llu allocations that failed\n", file_count, (unsigned long long) run);
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

static void read_file(const char *name)
{
    FILE *file = fopen(name, "rb");
    uint8_t part[4096];
    size_t count;
    struct bytes bytes = {0};

    CHECK(file, "%s cannot be read", name);
    while ((count = fread(part, 1, sizeof part, file)))
        bytes_append(&bytes, part, count);
    fclose(file);
    files = realloc(files, (file_count + 1) * sizeof *files);
    files[file_count++] = bytes;
}

int main(int count, char **words)
{
    double seconds = 0, begin_s = now_s();
    uint64_t runs = 0, most = 0;
    int target = -1;

    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(on_death);
    signal(SIGABRT, on_abort);
    for (int i = 1; i < count; i++) {
        if (!strcmp(words[i], "--checks")) {
            run_checks(i + 1 < count ? words[i + 1] : "");
            return 0;
        }
        if (words[i][0] != '-') {
            read_file(words[i]);
            continue;
        }
        CHECK(i + 1 < count, "%s needs a value", words[i]);
        if (!strcmp(words[i], "--seconds"))
            seconds = atof(words[++i]);
        else if (!strcmp(words[i], "--runs"))
            runs = strtoull(words[++i], NULL, 10);
        else if (!strcmp(words[i], "--seed"))
            seed = strtoull(words[++i], NULL, 10);
        else if (!strcmp(words[i], "--without-memory"))
            most = strtoull(words[++i], NULL, 10);
        else if (!strcmp(words[i], "--save"))
            save = words[++i];
        else if (!strcmp(words[i], "--target"))
            target = !strcmp(words[++i], "login") ? LOGIN : !strcmp(words[i], "traffic") ? TRAFFIC : RAW;
        else
            FAIL("%s is not known", words[i]);
    }
    if (most) {
        replay_without_memory(most);
        return 0;
    }
    for (size_t i = 0; i < file_count; i++)
        replay(i);
    for (run = 0; run < runs || now_s() - begin_s < seconds; run++) {
        uint64_t state = seed * 0x100000001 + run;
        if (file_count && next_random(&state) % 2)
            make_mutation(&state);
        else
            make_random(&state);
        if (target == LOGIN && current_size)
            current[0] = LOGIN << 4;
        else if (target >= 0 && current_size)
            current[0] = (uint8_t) ((current[0] & 0xe) | target);
        LLVMFuzzerTestOneInput(current, current_size);
    }
    double took_s = now_s() - begin_s;
    printf("%zu files and %llu runs in %.1f s: %.0f a second\n", file_count, (unsigned long long) run, took_s,
           (double) (file_count + run) / took_s);
    for (size_t i = 0; i < file_count; i++)
        bytes_free(&files[i]);
    free(files);
    return 0;
}

#endif
