/* Value at risk, one task: simulate a range of paths, revalue the whole portfolio on each, return exact sums.
 *
 * Layouts of the parameters and of the output: README.md. Every number is reproducible bit for bit: wasm's
 * + - * / sqrt are exact IEEE 754, and exp and log are compiled into the module. P&L is rounded to whole cents
 * (half to even) per path, so that all that is added up afterwards are integers.
 */
#include <math.h>
#include <string.h>

#include "hearth.h"

enum { BAD_LENGTH = 1, BAD_MAGIC, BAD_SIZE, BAD_INDEX_TABLE, NO_MEMORY, NOT_READY, BAD_TASK, NOT_FINITE };

enum {
    MAX_FACTORS = 512,
    MAX_TIMES = 1 << 16,
    MAX_OPTIONS = 1 << 18,
    MAX_PATHS = 1 << 20,
    MAX_DOF = 64,
};

/* With no limit, exp of a Student-t shock has no mean. One path in 60,000 meets it at 6 degrees of freedom. */
static const double MAX_MIX = 8.0;

typedef struct {
    char magic[8];
    uint8_t model_id[8];
    uint32_t equities, rates, vols, dof;
    uint32_t times, options, paths_per_task, task_count;
    uint64_t seed;
    int64_t threshold_cents;
    double base_value;
} Header;

typedef struct {
    char magic[8];
    uint8_t model_id[8];
    uint32_t task_count, paths;
    uint64_t task;
    __int128 sum_cents;
    unsigned __int128 sum_squares;
    int64_t min_cents, max_cents, threshold_cents;
    uint64_t tail_count;
} Output;

_Static_assert(sizeof(Header) == 72, "README.md documents 72 bytes");
_Static_assert(sizeof(Output) == 96, "README.md documents 96 bytes");

/* The parameters as columns, in the order of the file, and the scratch of one path. */
static struct {
    const Header *head;
    const double *spot, *shares, *yields, *cholesky;
    const double *tau, *cash, *left_weight;
    const double *strike, *quantity, *vol, *carry, *log_moneyness, *sqrt_tau, *sign;
    const uint32_t *left, *equity, *time;
    double *normal, *shock, *price, *curve, *rate_time, *discount;
    Output *output;
} risk;

/* --- random numbers: a pure function of (seed, path, position) --- */

typedef struct {
    uint32_t word[4];
} Block;

/* Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
static Block philox(uint64_t path, uint32_t block, uint64_t seed) {
    uint32_t c0 = block, c1 = 0, c2 = (uint32_t)path, c3 = (uint32_t)(path >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (Block){{c0, c1, c2, c3}};
}

/* A uniform strictly inside (0, 1): an odd multiple of 2^-53, from the high 52 of 64 bits. */
static double open_uniform(uint32_t low, uint32_t high) {
    uint64_t bits = ((uint64_t)high << 32 | low) >> 12;
    return ((double)bits + 0.5) * 0x1p-52;
}

static double horner7(const double c[8], double x) {
    return ((((((c[7] * x + c[6]) * x + c[5]) * x + c[4]) * x + c[3]) * x + c[2]) * x + c[1]) * x + c[0];
}

/* The inverse of the normal distribution, to 1e-16: Wichura, algorithm AS 241 (PPND16), Appl. Stat. 37 (1988). */
static double inverse_normal(double p) {
    static const double A[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                                1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                3.3430575583588128105e+4, 2.5090809287301226727e+3};
    static const double B[8] = {1.0,
                                4.2313330701600911252e+1,
                                6.8718700749205790830e+2,
                                5.3941960214247511077e+3,
                                2.1213794301586595867e+4,
                                3.9307895800092710610e+4,
                                2.8729085735721942674e+4,
                                5.2264952788528545610e+3};
    static const double C[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,  5.76949722146069140550e0,
                                3.64784832476320460504e0,  1.27045825245236838258e0,  2.41780725177450611770e-1,
                                2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static const double D[8] = {1.0,
                                2.05319162663775882187e0,
                                1.67638483018380384940e0,
                                6.89767334985100004550e-1,
                                1.48103976427480074590e-1,
                                1.51986665636164571966e-2,
                                5.47593808499534494600e-4,
                                1.05075007164441684324e-9};
    static const double E[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                                2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                2.71155556874348757815e-5, 2.01033439929228813265e-7};
    static const double F[8] = {1.0,
                                5.99832206555887937690e-1,
                                1.36929880922735805310e-1,
                                1.48753612908506148525e-2,
                                7.86869131145613259100e-4,
                                1.84631831751005468180e-5,
                                1.42151175831644588870e-7,
                                2.04426310338993978564e-15};
    double q = p - 0.5;
    if (fabs(q) <= 0.425) {
        double r = 0.180625 - q * q;
        return q * horner7(A, r) / horner7(B, r);
    }
    double r = sqrt(-log(q <= 0.0 ? p : 1.0 - p));
    double x = r <= 5.0 ? horner7(C, r - 1.6) / horner7(D, r - 1.6) : horner7(E, r - 5.0) / horner7(F, r - 5.0);
    return q < 0.0 ? -x : x;
}

static void draw_normals(uint64_t path, uint32_t count) {
    for (uint32_t i = 0; i < count; i += 2) {
        Block b = philox(path, i / 2, risk.head->seed);
        risk.normal[i] = inverse_normal(open_uniform(b.word[0], b.word[1]));
        risk.normal[i + 1] = inverse_normal(open_uniform(b.word[2], b.word[3]));
    }
}

/* --- prices --- */

/* The normal distribution, to 1e-15: Hart's algorithm 5666 as given by West, "Better approximations to
 * cumulative normal functions", Wilmott (2005). */
static double normal_cdf(double x) {
    double z = fabs(x), below;
    if (z > 37.0) {
        below = 0.0;
    } else {
        double e = exp(-0.5 * z * z);
        if (z < 7.07106781186547) {
            double n = 3.52624965998911e-02 * z + 0.700383064443688;
            n = n * z + 6.37396220353165;
            n = n * z + 33.912866078383;
            n = n * z + 112.079291497871;
            n = n * z + 221.213596169931;
            n = n * z + 220.206867912376;
            double d = 8.83883476483184e-02 * z + 1.75566716318264;
            d = d * z + 16.064177579207;
            d = d * z + 86.7807322029461;
            d = d * z + 296.564248779674;
            d = d * z + 637.333633378831;
            d = d * z + 793.826512519948;
            d = d * z + 440.413735824752;
            below = e * n / d;
        } else {
            double f = z + 1.0 / (z + 2.0 / (z + 3.0 / (z + 4.0 / (z + 0.65))));
            below = e / f / 2.506628274631;
        }
    }
    return x > 0.0 ? 1.0 - below : below;
}

/* Correlated shocks of all factors: the normals, fattened by one Student-t mixing variable if dof > 0. */
static void draw_shocks(uint64_t path) {
    const Header *h = risk.head;
    uint32_t factors = h->equities + h->rates + h->vols;
    draw_normals(path, factors + h->dof);
    double scale = 1.0;
    if (h->dof) {
        double chi2 = 0.0;
        for (uint32_t i = 0; i < h->dof; i++)
            chi2 += risk.normal[factors + i] * risk.normal[factors + i];
        scale = sqrt(h->dof / chi2);
        scale = scale < MAX_MIX ? scale : MAX_MIX;
    }
    const double *row = risk.cholesky;
    for (uint32_t i = 0; i < factors; i++) {
        double sum = 0.0;
        for (uint32_t j = 0; j <= i; j++)
            sum += row[j] * risk.normal[j];
        risk.shock[i] = sum * scale;
        row += i + 1;
    }
}

static double value_equities(void) {
    double value = 0.0;
    for (uint32_t i = 0; i < risk.head->equities; i++) {
        risk.price[i] = risk.spot[i] * exp(risk.shock[i]);
        value += risk.shares[i] * risk.price[i];
    }
    return value;
}

/* All cash flows of all bonds, on the shocked curve; leaves each date's discount factor for the options. */
static double value_cash(void) {
    const Header *h = risk.head;
    for (uint32_t i = 0; i < h->rates; i++)
        risk.curve[i] = risk.yields[i] + risk.shock[h->equities + i];
    risk.curve[h->rates] = risk.curve[h->rates - 1];
    double value = 0.0;
    for (uint32_t i = 0; i < h->times; i++) {
        double w = risk.left_weight[i];
        double rate = w * risk.curve[risk.left[i]] + (1.0 - w) * risk.curve[risk.left[i] + 1];
        risk.rate_time[i] = rate * risk.tau[i];
        risk.discount[i] = exp(-risk.rate_time[i]);
        value += risk.cash[i] * risk.discount[i];
    }
    return value;
}

/* Black-Scholes on the shocked price, rate and volatility, with the horizon gone by; the intrinsic value if expired. */
static double value_options(void) {
    const Header *h = risk.head;
    double vol_move = h->vols ? exp(risk.shock[h->equities + h->rates]) : 1.0;
    double value = 0.0;
    for (uint32_t i = 0; i < h->options; i++) {
        uint32_t e = risk.equity[i], t = risk.time[i];
        double sign = risk.sign[i], price = risk.price[e];
        if (risk.sqrt_tau[i] == 0.0) {
            double gain = sign * (price - risk.strike[i]);
            value += gain > 0.0 ? risk.quantity[i] * gain : 0.0;
            continue;
        }
        double deviation = risk.vol[i] * vol_move * risk.sqrt_tau[i];
        double d1 = (risk.log_moneyness[i] + risk.shock[e] + risk.rate_time[t]) / deviation + 0.5 * deviation;
        double asset = price * risk.carry[i] * normal_cdf(sign * d1);
        double cash = risk.strike[i] * risk.discount[t] * normal_cdf(sign * (d1 - deviation));
        value += risk.quantity[i] * sign * (asset - cash);
    }
    return value;
}

/* --- the ABI --- */

/* Validates the header and every table index, so that no parameter file makes a task read out of place. */
static int check(const Header *h, uint32_t len) {
    if (len < sizeof(Header))
        return BAD_LENGTH;
    if (memcmp(h->magic, "HRISKP01", 8))
        return BAD_MAGIC;
    uint32_t factors = h->equities + h->rates + h->vols;
    if (h->equities > MAX_FACTORS || h->rates > MAX_FACTORS || h->vols > 1 || factors > MAX_FACTORS || !h->rates ||
        h->times > MAX_TIMES || h->options > MAX_OPTIONS || h->dof > MAX_DOF || !h->paths_per_task ||
        h->paths_per_task > MAX_PATHS)
        return BAD_SIZE;
    uint64_t doubles = 2 * h->equities + h->rates + factors * (factors + 1) / 2 + 3 * h->times + 7 * h->options;
    uint64_t words = h->times + 2 * h->options;
    return len == sizeof(Header) + 8 * doubles + 4 * words ? 0 : BAD_LENGTH;
}

static const double *column(const double **next, uint32_t rows) {
    const double *start = *next;
    *next += rows;
    return start;
}

static int lay_out(const Header *h) {
    uint32_t factors = h->equities + h->rates + h->vols;
    const double *next = (const double *)(h + 1);
    risk.spot = column(&next, h->equities);
    risk.shares = column(&next, h->equities);
    risk.yields = column(&next, h->rates);
    risk.cholesky = column(&next, factors * (factors + 1) / 2);
    risk.tau = column(&next, h->times);
    risk.cash = column(&next, h->times);
    risk.left_weight = column(&next, h->times);
    risk.strike = column(&next, h->options);
    risk.quantity = column(&next, h->options);
    risk.vol = column(&next, h->options);
    risk.carry = column(&next, h->options);
    risk.log_moneyness = column(&next, h->options);
    risk.sqrt_tau = column(&next, h->options);
    risk.sign = column(&next, h->options);
    risk.left = (const uint32_t *)next;
    risk.equity = risk.left + h->times;
    risk.time = risk.equity + h->options;
    for (uint32_t i = 0; i < h->times; i++)
        if (risk.left[i] >= h->rates)
            return BAD_INDEX_TABLE;
    for (uint32_t i = 0; i < h->options; i++)
        if (risk.equity[i] >= h->equities || risk.time[i] >= h->times)
            return BAD_INDEX_TABLE;
    return 0;
}

HEARTH_EXPORT("hearth_init") int32_t hearth_init(int32_t ptr, int32_t len) {
    const Header *h = (const Header *)(uintptr_t)ptr;
    risk.head = NULL;
    if (len < 0 || ptr & 7)
        return BAD_LENGTH;
    int bad = check(h, (uint32_t)len);
    if (bad || (bad = lay_out(h)))
        return bad;
    if ((uintptr_t)ptr == hearth_floor && !hearth_keep((uint32_t)len))
        return NO_MEMORY;
    uint32_t factors = h->equities + h->rates + h->vols;
    risk.normal = hearth_keep(8 * (factors + h->dof + 1));
    risk.shock = hearth_keep(8 * factors);
    risk.price = hearth_keep(8 * h->equities);
    risk.curve = hearth_keep(8 * (h->rates + 1));
    risk.rate_time = hearth_keep(8 * h->times);
    risk.discount = hearth_keep(8 * h->times);
    risk.output = hearth_keep(sizeof(Output) + 8 * h->paths_per_task);
    if (!risk.normal || !risk.shock || !risk.price || !risk.curve || !risk.rate_time || !risk.discount ||
        !risk.output)
        return NO_MEMORY;
    risk.head = h;
    return 0;
}

HEARTH_EXPORT("hearth_task") int64_t hearth_task(int64_t index, int32_t ptr, int32_t len) {
    (void)ptr, (void)len;
    const Header *h = risk.head;
    if (!h)
        return HEARTH_FAIL(NOT_READY);
    if (index < 0 || index >= h->task_count)
        return HEARTH_FAIL(BAD_TASK);
    Output *out = risk.output;
    int64_t *tail = (int64_t *)(out + 1);
    memset(out, 0, sizeof *out);
    memcpy(out->magic, "HRISKR01", 8);
    memcpy(out->model_id, h->model_id, 8);
    out->task_count = h->task_count;
    out->paths = h->paths_per_task;
    out->task = (uint64_t)index;
    out->min_cents = INT64_MAX;
    out->max_cents = INT64_MIN;
    out->threshold_cents = h->threshold_cents;
    for (uint32_t i = 0; i < h->paths_per_task; i++) {
        draw_shocks((uint64_t)index * h->paths_per_task + i);
        double value = value_equities() + value_cash();
        double cents = rint((value + value_options() - h->base_value) * 100.0);
        if (!(fabs(cents) < 0x1p53))
            return HEARTH_FAIL(NOT_FINITE);
        int64_t profit = (int64_t)cents;
        out->sum_cents += profit;
        out->sum_squares += (unsigned __int128)((__int128)profit * profit);
        if (profit < out->min_cents)
            out->min_cents = profit;
        if (profit > out->max_cents)
            out->max_cents = profit;
        if (profit <= h->threshold_cents)
            tail[out->tail_count++] = profit;
    }
    return HEARTH_OUTPUT(out, sizeof(Output) + 8 * out->tail_count);
}
