/* Classifies handwritten digits with the compiled model.
 *
 *     digits IMAGE.pgm...
 *
 * Each image is a binary PGM (P5) of 28x28 gray bytes, light ink on dark ground. The file's name begins with
 * the digit it shows (`7_0.pgm`), which is how the last line can count the right ones.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digits.h"

enum { SIDE = 28, CLASSES = 10, BOX = 20, PER_BAND = 4 };

typedef struct {
    const char *name; /* of the file, without its folder */
    unsigned char pixels[SIDE][SIDE];
    int digit;
    float probability;
} sample;

/* Reads one number of a PGM header; -1 where there is none. */
static int header_number(FILE *file) {
    int c = fgetc(file), value = 0;
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = fgetc(file);
        else
            c = fgetc(file);
    }
    if (c < '0' || c > '9') return -1;
    for (; c >= '0' && c <= '9'; c = fgetc(file)) {
        value = 10 * value + (c - '0');
        if (value > 65535) return -1;
    }
    return value; /* the single white space behind the number is consumed */
}

/* NULL, or what is wrong with the file. */
static const char *read_pgm(const char *path, unsigned char pixels[SIDE][SIDE]) {
    const char *problem = NULL;
    FILE *file = fopen(path, "rb");
    if (!file) return "cannot be opened";
    if (fgetc(file) != 'P' || fgetc(file) != '5')
        problem = "is not a binary PGM file (P5)";
    else if (header_number(file) != SIDE || header_number(file) != SIDE || header_number(file) != 255)
        problem = "is not 28x28 with a maximum of 255";
    else if (fread(pixels, 1, SIDE * SIDE, file) != SIDE * SIDE)
        problem = "ends early";
    fclose(file);
    return problem;
}

/* The model wants numbers from 0 to 1 and gives ten probabilities. */
static int classify(sample *s) {
    static _Alignas(DIGITS_WORKSPACE_ALIGN) unsigned char workspace[DIGITS_WORKSPACE_BYTES];
    float image[SIDE * SIDE], digits[CLASSES];
    for (int i = 0; i < SIDE * SIDE; i++) image[i] = (float)s->pixels[i / SIDE][i % SIDE] / 255.0f;

    int status = (int)digits_run(image, digits, workspace, NULL);
    if (status != 0) return status;

    s->digit = 0;
    for (int k = 1; k < CLASSES; k++)
        if (digits[k] > digits[s->digit]) s->digit = k;
    s->probability = digits[s->digit];
    return 0;
}

/* Top left corner of the 20x20 box that shows the ink in its middle. */
static void find_box(const sample *s, int *top, int *left) {
    int y0 = SIDE, y1 = -1, x0 = SIDE, x1 = -1;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            if (s->pixels[y][x] > 95) {
                if (y < y0) y0 = y;
                if (y > y1) y1 = y;
                if (x < x0) x0 = x;
                if (x > x1) x1 = x;
            }
    *top = y1 < 0 ? 4 : (y0 + y1 + 1) / 2 - BOX / 2;
    *left = x1 < 0 ? 4 : (x0 + x1 + 1) / 2 - BOX / 2;
}

static int ink(const sample *s, int y, int x) {
    return y >= 0 && y < SIDE && x >= 0 && x < SIDE && s->pixels[y][x] > 95;
}

static int is_right(const sample *s) { return s->name[0] == '0' + s->digit; }

/* Up to four images side by side: two rows of pixels a line, the answers below. */
static void print_band(const sample *s, int n) {
    static const char *const block[] = {" ", "\xe2\x96\x84", "\xe2\x96\x80", "\xe2\x96\x88"}; /* none, lower, upper, full */
    int top[PER_BAND], left[PER_BAND];
    for (int k = 0; k < n; k++) find_box(&s[k], &top[k], &left[k]);
    for (int y = 0; y < BOX; y += 2) {
        for (int k = 0; k < n; k++)
            for (int x = 0; x < BOX; x++)
                fputs(block[2 * ink(&s[k], top[k] + y, left[k] + x) + ink(&s[k], top[k] + y + 1, left[k] + x)], stdout);
        putchar('\n');
    }
    for (int k = 0; k < n; k++)
        printf(" %-8.8s %d %5.1f%%%-3s", s[k].name, s[k].digit, 100.0 * (double)s[k].probability, is_right(&s[k]) ? "" : " !");
    puts("\n");
}

int main(int argc, char **argv) {
    sample band[PER_BAND];
    int held = 0, right = 0, total = argc - 1;
    if (total == 0) {
        fprintf(stderr, "usage: %s IMAGE.pgm...\n", argv[0]);
        return EXIT_FAILURE;
    }
    for (int i = 1; i < argc; i++) {
        sample *s = &band[held];
        const char *slash = strrchr(argv[i], '/');
        s->name = slash ? slash + 1 : argv[i];

        const char *problem = read_pgm(argv[i], s->pixels);
        if (problem) {
            fprintf(stderr, "%s %s\n", argv[i], problem);
            return EXIT_FAILURE;
        }
        int status = classify(s);
        if (status != 0) {
            fprintf(stderr, "%s: digits_run returned status %d; digits.h says what it means\n", argv[i], status);
            return EXIT_FAILURE;
        }
        right += is_right(s);
        if (++held == PER_BAND || i == total) {
            print_band(band, held);
            held = 0;
        }
    }
    printf("%d of %d right\n", right, total);
    return EXIT_SUCCESS;
}
