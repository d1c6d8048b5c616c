"""
Compiled loops over pixels: look-up of profiles, likelihood with derivatives, its minimum, and trial places.

This module imports numba, so others import it where they need it. Compiling takes some ten seconds, once: numba keeps
the machine code in ``__pycache__`` beside this file or, where that cannot be written, in the user's cache folder
(``NUMBA_CACHE_DIR`` sets another). It notices changes of this file only, which is why all that call each other are in
it. All arrays are contiguous, of float64 and int64, so that there is one version of each function. Pixels are taken in
groups that stay in the processor's cache, with loops that it can run on vectors.
"""

import numpy as np
from numba import njit

from ._octaves import OCTAVE_BITS as SHIFT

__all__ = ["expected_base", "image", "look_up", "minimise", "point_image", "polynomials", "scores", "shape_gains"]

GROUP = 128  # pixels
# Sums may be taken in any order; infinities and NaN are those of the formulas.
OPTIONS = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}
MAX_STEPS = 100
TOLERANCE = 3e-4  # in the Cash statistic: no step promises more
NO_STEP = 1e-2  # share of it, of which a promise is not worth another evaluation


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
    """Number of the interval of each pixel of a group, and how far the squared radius lies above its lower end."""
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
    squared, offset, index = np.empty(GROUP), np.empty(GROUP), np.empty(GROUP, np.int64)
    result = np.empty(x.size)
    for start in range(0, x.size, GROUP):
        size = min(GROUP, x.size - start)
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


@njit(**OPTIONS, inline="always")
def _add_component(scene, start, size, place, counts, curve, first, work, index, expected, by_place, by_counts, by_u):
    """Add a component to the ``expected`` counts of a group and to the derivatives by its place, and write those by its
    counts and by ``u`` (unless that is empty). ``curve`` are its polynomials with the derivative of its ``u``."""
    (curves, chain), by_x, by_y, offset = curve, by_place[0], by_place[1], work[1]
    centre_x, centre_y = place
    _locate(scene.x, scene.y, start, size, centre_x, centre_y, first, curves.shape[0], work[0], index, offset)
    for i in range(size):
        k, d, ratio = index[i], offset[i], scene.ratio[start + i]
        value = curves[k, 0] + d * (curves[k, 1] + d * (curves[k, 2] + d * curves[k, 3]))
        by_square = curves[k, 1] + d * (2 * curves[k, 2] + 3 * d * curves[k, 3])
        by_counts[i] = value * ratio
        expected[i] += counts * value * ratio
        slope = -2.0 * counts * by_square * ratio
        by_x[i] += slope * (scene.x[start + i] - centre_x)
        by_y[i] += slope * (scene.y[start + i] - centre_y)
    for i in range(min(size, by_u.size)):
        k, d = index[i], offset[i]
        value = curves[k, 4] + d * (curves[k, 5] + d * (curves[k, 6] + d * curves[k, 7]))
        by_u[i] = counts * chain * value * scene.ratio[start + i]


@njit(**OPTIONS, inline="always")
def _sum_up(counts, expected, slopes, used, work, gradient, fisher, sums):
    """Add a group's pixels to half the gradient, Fisher matrix (lower half) and sums; its contribution to C."""
    size, inverse, missing, scaled = counts.size, work[0], work[1], work[2]
    statistic = 0.0
    for i in range(size):
        statistic += expected[i]
        inverse[i] = 1.0 / expected[i]
        missing[i] = counts[i] * inverse[i]
    for i in range(size):
        if counts[i] > 0:
            statistic -= counts[i] * np.log(expected[i])
    for a in range(used.size):
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
    return 2.0 * statistic


@njit(**OPTIONS)
def _used(scene, components, n_source, n, camera):
    """Parameters that a camera depends on: places, core radii and level are common to the cameras, counts are not."""
    n_cameras, has_level = scene.edges.size - 1, scene.level_error > 0
    used, n_used = np.empty(n, np.int64), 0
    n_places = components[0, 3] if components.shape[0] > 0 else 0
    for p in range(n):
        first = n_places if p < n_source else n_source
        if p < n_places or (has_level and p == n - 1) or (p - first) % n_cameras == camera:
            used[n_used] = p
            n_used += 1
    return used[:n_used]


@njit(**OPTIONS)
def evaluate(scene, components, n_source, parameters, gradient, fisher, sums):
    """
    Cash statistic C = 2 sum(m - n ln m) with the prior of the level; half its gradient, the Fisher matrix and the sums
    over all pixels of the derivatives of m are written. ``components`` (n, 4): where x, y, u (-1: a point) and the
    counts of the first camera are among the parameters; y follows x.
    """
    n_cameras, n, has_level = scene.edges.size - 1, parameters.size, scene.level_error > 0
    slopes, expected, work, none = np.empty((n, GROUP)), np.empty(GROUP), np.empty((3, GROUP)), np.empty(0)
    index = np.empty(GROUP, np.int64)
    gradient[:], fisher[:], sums[:] = 0.0, 0.0, 0.0
    statistic = 0.0
    for camera in range(n_cameras):
        used = _used(scene, components, n_source, n, camera)
        curves = [_curves(scene, camera, parameters[part[2]] if part[2] >= 0 else -1.0) for part in components]
        for start in range(scene.edges[camera], scene.edges[camera + 1], GROUP):
            size = min(GROUP, scene.edges[camera + 1] - start)
            for i in range(size):
                expected[i] = scene.base[start + i]
            for part in components:
                slopes[part[0] : part[0] + 2] = 0.0
            for number in range(components.shape[0]):
                x, _, u, counts = components[number]
                counts += camera
                _add_component(
                    scene, start, size, parameters[x : x + 2], parameters[counts], curves[number],
                    scene.layout[camera, 3], work, index, expected, slopes[x : x + 2], slopes[counts],
                    slopes[u] if u >= 0 else none,
                )  # fmt: skip
            for number in range(scene.neighbours.shape[0]):
                p = n_source + number * n_cameras + camera
                for i in range(size):
                    slopes[p, i] = scene.neighbours[number, start + i]
                    expected[i] += parameters[p] * slopes[p, i]
            if has_level:
                for i in range(size):
                    slopes[n - 1, i] = scene.background[start + i]
                    expected[i] += (parameters[n - 1] - 1.0) * slopes[n - 1, i]
            seen = scene.counts[start : start + size]
            statistic += _sum_up(seen, expected, slopes, used, work, gradient, fisher, sums)
    if has_level:
        pull = (parameters[n - 1] - 1.0) / scene.level_error
        statistic += pull * pull
        gradient[n - 1] += pull / scene.level_error
        fisher[n - 1, n - 1] += 1.0 / scene.level_error**2
    for a in range(n):
        for b in range(a):
            fisher[b, a] = fisher[a, b]
    return statistic


@njit(**OPTIONS)
def _step(fisher, excess, gradient, free, damping, step):
    """Solve (F + excess + damping diag F) step = -gradient for the free parameters by Cholesky's method; False if that
    fails."""
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
    n, along, before = moved.size, 0.0, 0.0
    rest, has = change.copy(), np.zeros(n)
    for a in range(n):
        for b in range(n):
            rest[a] -= fisher[a, b] * moved[b]
            has[a] += excess[a, b] * moved[b]
        along += moved[a] * rest[a]
        before += moved[a] * has[a]
    # After a long step the old excess may be much too large.
    size = min(1.0, abs(along / before)) if before != 0 else 1.0
    length = norm = scale = 0.0
    for a in range(n):
        rest[a] -= size * has[a]
        scale += rest[a] * moved[a]
        if fisher[a, a] > 0:
            length += moved[a] ** 2 * fisher[a, a]
            norm += rest[a] ** 2 / fisher[a, a]
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
    best = np.minimum(np.maximum(start, lower), upper)
    gradient, fisher, sums = np.empty(n), np.empty((n, n)), np.empty(n)
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
        promise = 0.0
        for a in range(n):
            promise -= 2 * gradient[a] * moved[a]
            for b in range(n):
                promise -= moved[a] * (fisher[a, b] + excess[a, b]) * moved[b]
        if abs(promise) < NO_STEP * TOLERANCE and damping < 0.01:
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
    result, information = np.zeros(len(places)), np.zeros(len(places))
    for camera in range(scene.edges.size - 1):
        part = slice(scene.edges[camera], scene.edges[camera + 1])
        x, y, ratio, first = scene.x[part], scene.y[part], scene.ratio[part], scene.layout[camera, 3]
        curves, expected = _curves(scene, camera, -1.0)[0], model[part]
        excess = scene.counts[part] / expected - 1.0
        for number in range(len(places)):
            shape = image(x, y, ratio, places[number, 0], places[number, 1], curves, first)
            for i in range(shape.size):
                result[number] += shape[i] * excess[i]
                information[number] += shape[i] * shape[i] / expected[i]
    for number in range(len(places)):
        result[number] = result[number] / np.sqrt(information[number]) if information[number] > 0 else -np.inf
    return result


@njit(**OPTIONS)
def point_image(scene, x, y, counts):
    """Expected counts of a point on all pixels; ``counts`` per camera."""
    result = np.empty(scene.x.size)
    for camera in range(scene.edges.size - 1):
        part = slice(scene.edges[camera], scene.edges[camera + 1])
        curves, first = _curves(scene, camera, -1.0)[0], scene.layout[camera, 3]
        shape = image(scene.x[part], scene.y[part], scene.ratio[part], x, y, curves, first)
        for i in range(shape.size):
            result[scene.edges[camera] + i] = counts[camera] * shape[i]
    return result
