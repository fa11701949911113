// The drawing area: strokes by mouse, pen, finger or keyboard, in units of its side.

const STEP = 0.05;
const SMALL_STEP = 0.0125;

export class Drawing extends EventTarget {
  #canvas;
  #strokes = [];
  #current = null;
  #pointer = null;
  /** Where the keyboard's pen is; null until a key moves it. */
  #pen = null;

  constructor(canvas) {
    super();
    this.#canvas = canvas;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.#up(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#lift());
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  /** All strokes: lists of points. */
  get strokes() {
    return this.#strokes;
  }

  clear() {
    this.#strokes = [];
    this.#lift();
    this.#changed();
  }

  undo() {
    this.#lift();
    this.#strokes.pop();
    this.#changed();
  }

  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    const inside = (value) => Math.min(1, Math.max(0, value));
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  }

  #begin(point) {
    this.#current = [point];
    this.#strokes.push(this.#current);
    this.#changed();
  }

  #down(event) {
    if (this.#pointer !== null || event.button !== 0) return;
    this.#lift();
    this.#pen = null;
    this.#pointer = event.pointerId;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#begin(this.#at(event));
  }

  #move(event) {
    if (event.pointerId !== this.#pointer) return;
    for (const part of event.getCoalescedEvents?.() ?? []) this.#current.push(this.#at(part));
    this.#current.push(this.#at(event));
    this.#changed();
  }

  #up(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#current = null;
    this.#changed();
  }

  #lift() {
    if (this.#pointer === null) this.#current = null;
  }

  #key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move !== undefined) {
      const step = event.shiftKey ? SMALL_STEP : STEP;
      const from = this.#pen ?? [0.5, 0.5];
      this.#pen = from.map((value, axis) => Math.min(1, Math.max(0, value + step * move[axis])));
      if (this.#current !== null) this.#current.push(this.#pen);
      this.#changed();
    } else if (event.key === " ") {
      this.#pen ??= [0.5, 0.5];
      if (this.#current === null) this.#begin(this.#pen);
      else this.#lift();
      this.paint();
    } else if (event.key === "Backspace") {
      this.undo();
    } else if (event.key === "Escape") {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
  }

  #changed() {
    this.paint();
    this.dispatchEvent(new Event("change"));
  }

  /** Paints grid, strokes and the keyboard's pen. */
  paint() {
    const canvas = this.#canvas;
    const side = Math.max(1, Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)));
    if (canvas.width !== side) [canvas.width, canvas.height] = [side, side];
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    context.clearRect(0, 0, side, side);
    context.strokeStyle = style.getPropertyValue("--grid");
    context.lineWidth = side / 400;
    context.beginPath();
    for (let i = 1; i < 8; i += 1) {
      context.moveTo((i * side) / 8, 0);
      context.lineTo((i * side) / 8, side);
      context.moveTo(0, (i * side) / 8);
      context.lineTo(side, (i * side) / 8);
    }
    context.stroke();
    context.strokeStyle = style.getPropertyValue("--text");
    context.lineWidth = side / 22;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.#strokes) {
      context.beginPath();
      stroke.forEach(([x, y]) => context.lineTo(x * side, y * side));
      if (stroke.length === 1) context.lineTo(stroke[0][0] * side, stroke[0][1] * side);
      context.stroke();
    }
    if (this.#pen !== null) {
      context.beginPath();
      context.arc(this.#pen[0] * side, this.#pen[1] * side, side / 30, 0, 2 * Math.PI);
      context.strokeStyle = context.fillStyle = style.getPropertyValue("--warm");
      context.lineWidth = side / 120;
      if (this.#current !== null) context.fill();
      context.stroke();
    }
  }
}
