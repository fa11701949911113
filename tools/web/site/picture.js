// From strokes to the picture that a network takes: the drawing is cropped, centred and inked as the shipped network's own data are
// (tools/data/src/synth/glyphs.rs).

/** Half the width of the pen and the softness of its edge, for 16 pixels a side; part of the side that the drawing fills. */
const PEN = { width: 0.75, blur: 0.85, fills: 0.56 };

/** Distance of a point from a segment. */
function distance(x, y, [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const length = dx * dx + dy * dy;
  const share = length > 0 ? Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / length)) : 0;
  return Math.hypot(x - ax - share * dx, y - ay - share * dy);
}

/** Strokes, in any unit, as points in pixels of a picture with so many a side. */
function placed(strokes, side) {
  const points = strokes.flat();
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  // A dot stays a dot.
  const scale = (PEN.fills * side) / Math.max(right - left, bottom - top, 1e-3);
  const centre = [(left + right) / 2, (top + bottom) / 2];
  return strokes.map((stroke) => stroke.map(([x, y]) => [(x - centre[0]) * scale + side / 2, (y - centre[1]) * scale + side / 2]));
}

/** Ink of every pixel, 0 to 1, row by row. */
export function ink(strokes, side) {
  const values = new Float32Array(side * side);
  if (strokes.length === 0) return values;
  const segments = placed(strokes, side).flatMap((stroke) =>
    stroke.length === 1 ? [[stroke[0], stroke[0]]] : stroke.slice(1).map((point, i) => [stroke[i], point]),
  );
  const unit = side / 16;
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      const near = segments.reduce((least, [a, b]) => Math.min(least, distance(x + 0.5, y + 0.5, a, b)), Infinity);
      values[y * side + x] = Math.min(1, Math.max(0, (PEN.width - near / unit) / PEN.blur + 0.5));
    }
  }
  return values;
}

/** The network's input: `channels` copies of the picture, between the numbers for paper and for ink. */
export function inputOf(values, channels, { paper, ink }) {
  const input = new Float32Array(values.length * channels);
  values.forEach((value, i) => input.fill(paper + (ink - paper) * value, i * channels, (i + 1) * channels));
  return input;
}

/** Shows a picture on a canvas of as many pixels. */
export function show(canvas, values, side) {
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  values.forEach((value, i) => {
    const grey = 236 - 206 * value;
    image.data.set([grey, grey, grey, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
}
