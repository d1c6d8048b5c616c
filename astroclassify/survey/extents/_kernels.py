"""
Compiled loops over pixels: look-up of profiles, likelihood with derivatives, and its minimum.

This module imports numba, so others import it where they need it. Compiling takes some seconds, once: numba keeps the
machine code in ``__pycache__`` beside this file or, where that cannot be written, in the user's cache folder
(``NUMBA_CACHE_DIR`` sets another). All arrays are contiguous, of float64 and int64, so that there is one version of
each function. Pixels are taken in blocks that stay in the processor's cache, with loops that it can run on vectors.
"""

import numpy as np
from numba import njit

__all__ = ["amplitude", "blocks", "expected_base", "image", "look_up", "minimise", "point_image", "polynomials", "scores", "shape_gains"]

BLOCK = 128  # pixels
# Sums may be taken in any order; infinities and NaN are those of the formulas.
OPTIONS = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}
# Squared radii of tables: an octave has 8 intervals, numbered by the first bits of the floating-point number.
from ._profile import OCTAVE_BITS as SHIFT
MAX_STEPS = 100
FINENESS = 0.3  # of blocks
FINEST, N_OCTAVES = 1 / 16, 16  # of their sides [arcsec]
ROUGHNESS = 1.5
CORE = 4.0
TOLERANCE = 1e-3  # in the Cash statistic: no step promises more


@njit(**OPTIONS)
def polynomials(values, width, first, u, n):
    """Cubic polynomials of f and df/du in squared radius, (n, 8), at ``u`` between the nodes of a table."""
    node = min(max(int(u / width), 0), values.shape[0] - 2)
    t = u / width - node
    s = t - 1.0
    # Cubic Hermite polynomials of the two nodes' values and slopes, and their derivatives.
    w0, w1, w2, w3 = (1 + 2 * t) * s * s, t * t * (3 - 2 * t), t * s * s * width, t * t * s * width
    c0, c1, c2, c3 = 6 * t * s / width, -6 * t * s / width, s * (3 * t - 1), t * (3 * t - 2)
    below, above = values[node], values[node + 1]
    rows = np.empty((4, n + 1))
    for k in range(n + 1):
        for j in range(2):
            rows[j, k] = w0 * below[k, j] + w1 * above[k, j] + w2 * below[k, j + 2] + w3 * above[k, j + 2]
            rows[j + 2, k] = c0 * below[k, j] + c1 * above[k, j] + c2 * below[k, j + 2] + c3 * above[k, j + 2]
    squares = ((first + np.arange(n + 1)) << SHIFT).view(np.float64)
    result = np.empty((n, 8))
    for k in range(n):
        step = 1.0 / (squares[k + 1] - squares[k])
        for j in range(2):
            # f'(r) / r is twice the derivative by the squared radius.
            here, start, end = rows[2 * j, k], 0.5 * rows[2 * j + 1, k], 0.5 * rows[2 * j + 1, k + 1]
            rise = (rows[2 * j, k + 1] - here) * step
            result[k, 4 * j] = here
            result[k, 4 * j + 1] = start
            result[k, 4 * j + 2] = (3 * rise - 2 * start - end) * step
            result[k, 4 * j + 3] = (start + end - 2 * rise) * step * step
    return result


@njit(**OPTIONS)
def _locate(x, y, start, size, centre_x, centre_y, first, n, squared, index, offset):
    """Number of the interval of each pixel of a block, and how far the squared radius lies above its lower end."""
    ends = np.array([first << SHIFT, ((first + n) << SHIFT) - 1]).view(np.float64)
    for i in range(size):
        dx, dy = x[start + i] - centre_x, y[start + i] - centre_y
        squared[i] = min(max(dx * dx + dy * dy, ends[0]), ends[1])
    bits, lower = squared.view(np.int64), offset.view(np.int64)
    for i in range(size):
        number = bits[i] >> SHIFT
        index[i] = number - first
        lower[i] = number << SHIFT
    for i in range(size):
        offset[i] = squared[i] - offset[i]


@njit(**OPTIONS)
def look_up(rows, first, squared):
    """Values (n, n_pixels) of polynomials (n, n_intervals, 4) at squared radii (n_pixels,)."""
    ends = np.array([first << SHIFT, ((first + rows.shape[1]) << SHIFT) - 1]).view(np.float64)
    result, cell = np.empty((rows.shape[0], squared.size)), np.empty(1)
    bits = cell.view(np.int64)
    for i in range(squared.size):
        cell[0] = square = min(max(squared[i], ends[0]), ends[1])
        number = bits[0] >> SHIFT
        bits[0] = number << SHIFT
        d, k = square - cell[0], number - first
        for row in range(rows.shape[0]):
            c = rows[row, k]
            result[row, i] = c[0] + d * (c[1] + d * (c[2] + d * c[3]))
    return result


@njit(**OPTIONS)
def image(x, y, ratio, centre_x, centre_y, curves, first):
    """Expected counts per pixel of a source of one count, from `polynomials`."""
    squared, offset, index = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.int64)
    result = np.empty(x.size)
    for start in range(0, x.size, BLOCK):
        size = min(BLOCK, x.size - start)
        _locate(x, y, start, size, centre_x, centre_y, first, curves.shape[0], squared, index, offset)
        for i in range(size):
            k, d = index[i], offset[i]
            value = curves[k, 0] + d * (curves[k, 1] + d * (curves[k, 2] + d * curves[k, 3]))
            result[start + i] = value * ratio[start + i]
    return result


@njit(**OPTIONS)
def _curves(scene, camera, u):
    """Polynomials of a camera at the ``u`` of the first one's table (negative: of a point), and the derivative of its
    own ``u`` by that."""
    begin, n_ext, n_radii, first, begin_point, n = scene.layout[camera]
    if u < 0:
        return scene.points[begin_point : begin_point + n_radii - 1], 1.0
    values = scene.values[begin : begin + n_ext * n_radii * 4].reshape((n_ext, n_radii, 4))
    scale, width = scene.scales[camera]
    local, chain = u, 1.0
    if camera > 0 and scale != scene.scales[0, 0]:
        relative = scene.scales[0, 0] / scale
        local = np.arcsinh(relative * np.sinh(u))
        chain = relative * np.cosh(u) / np.cosh(local)
    return polynomials(values, width, first, local, n), chain


@njit(**OPTIONS)
def evaluate(scene, components, n_source, parameters, gradient, fisher, sums):
    """
    Cash statistic C = 2 sum(m - n ln m) with the prior of the level; half its gradient, the Fisher matrix and the sums
    over all pixels of the derivatives of m are written. ``components`` (n, 4): where x, y, u (-1: a point) and the
    counts of the first camera are among the parameters.
    """
    n_cameras, n_neighbours, n = scene.edges.size - 1, scene.neighbours.shape[0], parameters.size
    has_level = scene.level_error > 0
    level = parameters[n - 1] if has_level else 1.0
    slopes, scaled = np.empty((n, BLOCK)), np.empty(BLOCK)
    squared, offset, index = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.int64)
    expected, inverse, missing = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    used = np.empty(n, np.int64)
    gradient[:], fisher[:], sums[:] = 0.0, 0.0, 0.0
    statistic = 0.0
    for camera in range(n_cameras):
        n_used = 0
        for p in range(n):
            # Places, core radius and level are common to the cameras; counts are not.
            shared = p < components[0, 3] if p < n_source else has_level and p == n - 1
            first_counts = components[0, 3] if p < n_source else n_source
            if shared or (p - first_counts) % n_cameras == camera:
                used[n_used] = p
                n_used += 1
        first = scene.layout[camera, 3]
        curves = [_curves(scene, camera, parameters[part[2]] if part[2] >= 0 else -1.0) for part in components]
        for start in range(scene.edges[camera], scene.edges[camera + 1], BLOCK):
            size = min(BLOCK, scene.edges[camera + 1] - start)
            for i in range(size):
                expected[i] = scene.base[start + i]
            for number in range(components.shape[0]):
                at_x, at_y, at_u, at_counts = components[number]
                at_counts += camera
                counts, (curve, chain) = parameters[at_counts], curves[number]
                centre_x, centre_y = parameters[at_x], parameters[at_y]
                n_curve = curve.shape[0]
                _locate(
                    scene.x, scene.y, start, size, centre_x, centre_y, first, n_curve, squared, index, offset
                )
                by_x, by_y, by_counts = slopes[at_x], slopes[at_y], slopes[at_counts]
                if number == 0 or components[0, 0] != at_x:
                    by_x[:] = 0.0
                    by_y[:] = 0.0
                for i in range(size):
                    k, d, ratio = index[i], offset[i], scene.ratio[start + i]
                    value = curve[k, 0] + d * (curve[k, 1] + d * (curve[k, 2] + d * curve[k, 3]))
                    by_square = curve[k, 1] + d * (2 * curve[k, 2] + 3 * d * curve[k, 3])
                    by_counts[i] = value * ratio
                    expected[i] += counts * value * ratio
                    slope = -2.0 * counts * by_square * ratio
                    by_x[i] += slope * (scene.x[start + i] - centre_x)
                    by_y[i] += slope * (scene.y[start + i] - centre_y)
                if at_u >= 0:
                    by_u, factor = slopes[at_u], counts * chain
                    for i in range(size):
                        k, d = index[i], offset[i]
                        value = curve[k, 4] + d * (curve[k, 5] + d * (curve[k, 6] + d * curve[k, 7]))
                        by_u[i] = factor * value * scene.ratio[start + i]
            for number in range(n_neighbours):
                p = n_source + number * n_cameras + camera
                shape, row, factor = scene.neighbours[number], slopes[p], parameters[p]
                for i in range(size):
                    row[i] = shape[start + i]
                    expected[i] += factor * row[i]
            if has_level:
                row = slopes[n - 1]
                for i in range(size):
                    row[i] = scene.background[start + i]
                    expected[i] += (level - 1.0) * row[i]
            total = 0.0
            for i in range(size):
                total += expected[i]
                inverse[i] = 1.0 / expected[i]
                missing[i] = scene.counts[start + i] * inverse[i]
            for i in range(size):
                if scene.counts[start + i] > 0:
                    total -= scene.counts[start + i] * np.log(expected[i])
            statistic += 2.0 * total
            for a in range(n_used):
                row = slopes[used[a]]
                total = seen = 0.0
                for i in range(size):
                    total += row[i]
                    seen += row[i] * missing[i]
                    scaled[i] = row[i] * inverse[i]
                sums[used[a]] += total
                gradient[used[a]] += total - seen
                for b in range(a + 1):
                    other, total = slopes[used[b]], 0.0
                    for i in range(size):
                        total += scaled[i] * other[i]
                    fisher[used[a], used[b]] += total
    if has_level:
        pull = (level - 1.0) / scene.level_error
        statistic += pull * pull
        gradient[n - 1] += pull / scene.level_error
        fisher[n - 1, n - 1] += 1.0 / scene.level_error**2
    for a in range(n):
        for b in range(a):
            fisher[b, a] = fisher[a, b]
    return statistic


@njit(**OPTIONS)
def _step(fisher, excess, gradient, free, damping, step):
    """Solve (F + excess + damping diag F) step = -gradient for the free parameters by Cholesky's method; False if it fails."""
    n = free.size
    matrix, vector, scale = np.empty((n, n)), np.empty(n), np.empty(n)
    for a in range(n):
        scale[a] = 1.0 / np.sqrt(fisher[free[a], free[a]])
        vector[a] = -gradient[free[a]] * scale[a]
        for b in range(a + 1):
            matrix[a, b] = (fisher[free[a], free[b]] + excess[free[a], free[b]]) * scale[a] * scale[b]
        matrix[a, a] += damping
    for a in range(n):
        for b in range(a + 1):
            total = matrix[a, b]
            for c in range(b):
                total -= matrix[a, c] * matrix[b, c]
            if a > b:
                matrix[a, b] = total / matrix[b, b]
            elif total > 1e-12:
                matrix[a, a] = np.sqrt(total)
            else:
                return False
        for c in range(a):
            vector[a] -= matrix[a, c] * vector[c]
        vector[a] /= matrix[a, a]
    step[:] = 0.0
    for a in range(n - 1, -1, -1):
        for c in range(a + 1, n):
            vector[a] -= matrix[c, a] * vector[c]
        vector[a] /= matrix[a, a]
        step[free[a]] = vector[a] * scale[a]
    return True


@njit(**OPTIONS)
def _shorten(scene, components, best, step):
    """Shorten a step that moves a component by more than its size, beyond which derivatives tell nothing."""
    longest = 0.0
    for x, y, u, _ in components:
        size = 2 * scene.scales[0, 0]
        if u >= 0:
            size *= np.cosh(best[u])
            longest = max(longest, abs(step[u]))
        longest = max(longest, np.hypot(step[x], step[y]) / size)
    if longest > 1:
        step /= longest


@njit(**OPTIONS)
def _learn(excess, fisher, moved, change):
    """Update what the curvature of C has beyond the Fisher matrix (Dennis, Gay & Welsch 1981, ACM Trans. Math. Softw.
    7, 348) by a symmetric update of rank one, from the ``change`` of the gradient along a step."""
    n = moved.size
    wanted, has = change - fisher @ moved, excess @ moved
    along, before = moved @ wanted, moved @ has
    # After a long step the old excess may be much too large.
    size = min(1.0, abs(along / before)) if before != 0 else 1.0
    rest, length, norm = wanted - size * has, 0.0, 0.0
    for p in range(n):
        if fisher[p, p] > 0:
            length += moved[p] ** 2 * fisher[p, p]
            norm += rest[p] ** 2 / fisher[p, p]
    scale = rest @ moved
    known = abs(scale) > 1e-6 * np.sqrt(length * norm)
    for a in range(n):
        for b in range(n):
            excess[a, b] *= size
            if known:
                excess[a, b] += rest[a] * rest[b] / scale


@njit(**OPTIONS)
def minimise(scene, components, n_source, start, lower, upper, excess):
    """
    Parameters of least C within bounds, C, Fisher matrix, sums of derivatives, and whether the search converged.
    Newton's method, scaled and damped (Levenberg 1944; Marquardt 1963), with the Fisher matrix and what the steps tell
    of the curvature beyond it, ``excess``, from zeros or from a similar scene and written for one; a parameter stays at
    its bound while the gradient holds it there.
    """
    n = start.size
    best, gradient, fisher, sums = np.minimum(np.maximum(start, lower), upper), np.empty(n), np.empty((n, n)), np.empty(n)
    next_gradient, next_fisher, next_sums = np.empty(n), np.empty((n, n)), np.empty(n)
    step, free = np.empty(n), np.empty(n, np.int64)
    statistic = evaluate(scene, components, n_source, best, gradient, fisher, sums)
    damping, converged = 1e-3, False
    for _ in range(MAX_STEPS):
        n_free = 0
        for p in range(n):
            held = (best[p] <= lower[p] and gradient[p] >= 0) or (best[p] >= upper[p] and gradient[p] <= 0)
            if not held and fisher[p, p] > 0:
                free[n_free] = p
                n_free += 1
        if n_free == 0:
            converged = True
            break
        if not _step(fisher, excess, gradient, free[:n_free], damping, step):
            excess[:] = 0.0
            _step(fisher, excess, gradient, free[:n_free], max(damping, 1e-6), step)
        _shorten(scene, components, best, step)
        trial = np.minimum(np.maximum(best + step, lower), upper)
        moved = trial - best
        promise = -2 * (gradient @ moved) - moved @ (fisher @ moved) - moved @ (excess @ moved)
        if abs(promise) < 0.01 * TOLERANCE and damping < 0.01:
            converged = True
            break
        outcome = evaluate(scene, components, n_source, trial, next_gradient, next_fisher, next_sums)
        gain = statistic - outcome
        change = next_gradient - gradient
        if gain > 0:
            best, statistic = trial, outcome
            gradient, next_gradient = next_gradient, gradient
            fisher, next_fisher = next_fisher, fisher
            sums, next_sums = next_sums, sums
            damping = max(damping * 0.2, 1e-9)
        else:
            damping *= 10
        if abs(promise) < TOLERANCE and abs(gain) < TOLERANCE or damping > 1e9:
            converged = True
            break
        _learn(excess, fisher, moved, change)
    return best, statistic, fisher, sums, converged


@njit(**OPTIONS)
def amplitude(counts, shape, ground):
    """Best-fitting counts of a source of given shape, and their gain in the Cash statistic (Newton, from above)."""
    total = seen = drive = 0.0
    for i in range(counts.size):
        total += shape[i]
        seen += counts[i]
        drive += counts[i] * shape[i] / ground[i]
    if not (total > 0 and drive > total):
        return 0.0, 0.0
    hot = np.flatnonzero(counts)
    # The root of sum(n shape / (ground + a shape)) = total in a lies below sum(n) / total.
    best = seen / total
    for _ in range(30):
        drive = slope = 0.0
        for i in hot:
            part = shape[i] / (ground[i] + best * shape[i])
            drive += counts[i] * part
            slope += counts[i] * part * part
        change = (drive - total) / slope
        best = max(best + change, best / 4)
        if abs(change) < 1e-4 * best:
            break
    gain = -best * total
    for i in hot:
        gain += counts[i] * np.log1p(best * shape[i] / ground[i])
    return best, 2 * gain


@njit(**OPTIONS)
def expected_base(scene, neighbours, level):
    """Expected counts of all pixels without the source; ``neighbours`` (n_neighbours, n_cameras) are their factors."""
    result = scene.base + (level - 1.0) * scene.background
    for camera in range(scene.edges.size - 1):
        for number in range(neighbours.shape[0]):
            factor = neighbours[number, camera]
            for i in range(scene.edges[camera], scene.edges[camera + 1]):
                result[i] += factor * scene.neighbours[number, i]
    return result


@njit(**OPTIONS)
def shape_gains(scene, ground, places):
    """Gain in C of sources at ``places`` (n, 3: x, y, u) with the best counts, and these (n, n_cameras)."""
    n_cameras = scene.edges.size - 1
    gains, counts = np.zeros(len(places)), np.empty((len(places), n_cameras))
    for camera in range(n_cameras):
        part = slice(scene.edges[camera], scene.edges[camera + 1])
        x, y, ratio = scene.x[part], scene.y[part], scene.ratio[part]
        for number in range(len(places)):
            centre_x, centre_y, u = places[number]
            curves, _ = _curves(scene, camera, u)
            shape = image(x, y, ratio, centre_x, centre_y, curves, scene.layout[camera, 3])
            counts[number, camera], gain = amplitude(scene.counts[part], shape, ground[part])
            gains[number] += gain
    return gains, counts


@njit(**OPTIONS)
def scores(scene, model, places):
    """Significance of a faint point at ``places`` (n, 2) beside a model: score test."""
    score, information = np.zeros(len(places)), np.zeros(len(places))
    for camera in range(scene.edges.size - 1):
        part = slice(scene.edges[camera], scene.edges[camera + 1])
        x, y, ratio, first = scene.x[part], scene.y[part], scene.ratio[part], scene.layout[camera, 3]
        curves, expected = _curves(scene, camera, -1.0)[0], model[part]
        excess = scene.counts[part] / expected - 1.0
        for number in range(len(places)):
            shape = image(x, y, ratio, places[number, 0], places[number, 1], curves, first)
            for i in range(shape.size):
                score[number] += shape[i] * excess[i]
                information[number] += shape[i] * shape[i] / expected[i]
    return np.where(information > 0, score / np.sqrt(information), -np.inf)


@njit(**OPTIONS)
def point_image(scene, x, y, counts):
    """Expected counts of a point on all pixels; ``counts`` per camera."""
    result = np.empty(scene.x.size)
    for camera in range(scene.edges.size - 1):
        part = slice(scene.edges[camera], scene.edges[camera + 1])
        curves, first = _curves(scene, camera, -1.0)[0], scene.layout[camera, 3]
        result[part] = counts[camera] * image(scene.x[part], scene.y[part], scene.ratio[part], x, y, curves, first)
    return result


@njit(**OPTIONS)
def _block_numbers(scene):
    """
    Number of the block of each pixel, and where those of each camera begin. Blocks are squares of a side between
    `FINENESS` / 2 and `FINENESS` times the distance from the position; near it, and where base and neighbours vary by
    more than `ROUGHNESS`, pixels stay alone.
    """
    half = int(2 / FINENESS) + 1
    across, core = 2 * half + 1, CORE * scene.scales[0, 0]
    numbers, cells = np.empty(scene.x.size, np.int64), np.empty(scene.x.size, np.int64)
    edges = np.zeros(scene.edges.size, np.int64)
    n = 0
    for camera in range(scene.edges.size - 1):
        pixels = range(scene.edges[camera], scene.edges[camera + 1])
        least, most = np.full((N_OCTAVES, across, across), np.inf).ravel(), np.zeros(N_OCTAVES * across**2)
        number = np.full(most.size, -1)
        for i in pixels:
            side, octave, distance = FINEST, 0, max(abs(scene.x[i]), abs(scene.y[i]))
            if distance < core:
                cells[i] = -1
                continue
            while side <= FINENESS / 2 * distance and octave < N_OCTAVES - 1:
                side *= 2
                octave += 1
            row = min(max(int(np.floor(scene.y[i] / side)), -half), half) + half
            column = min(max(int(np.floor(scene.x[i] / side)), -half), half) + half
            cell = cells[i] = (octave * across + row) * across + column
            ground = scene.base[i]
            for each in range(scene.neighbours.shape[0]):
                ground += scene.neighbours[each, i]
            ground /= scene.ratio[i]
            least[cell], most[cell] = min(least[cell], ground), max(most[cell], ground)
        for i in pixels:
            cell = cells[i]
            if cell < 0 or most[cell] > ROUGHNESS * least[cell]:
                numbers[i] = n
                n += 1
            else:
                if number[cell] < 0:
                    number[cell] = n
                    n += 1
                numbers[i] = number[cell]
        edges[camera + 1] = n
    return numbers, edges


@njit(**OPTIONS)
def blocks(scene):
    """Sums of pixels over blocks: counts, base, background, ratio, mean x and y, neighbours, and edges of cameras."""
    numbers, edges = _block_numbers(scene)
    sums, neighbours = np.zeros((6, edges[-1])), np.zeros((scene.neighbours.shape[0], edges[-1]))
    for i in range(numbers.size):
        k, ratio = numbers[i], scene.ratio[i]
        sums[0, k] += scene.counts[i]
        sums[1, k] += scene.base[i]
        sums[2, k] += scene.background[i]
        sums[3, k] += ratio
        sums[4, k] += scene.x[i] * ratio
        sums[5, k] += scene.y[i] * ratio
    for row in range(neighbours.shape[0]):
        for i in range(numbers.size):
            neighbours[row, numbers[i]] += scene.neighbours[row, i]
    sums[4:] /= sums[3]
    return sums, neighbours, edges
