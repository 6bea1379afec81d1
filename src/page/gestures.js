// What hands do: drag, pinch, wheel, keys.

/** A press that moved less than this is a click, pixels. */
const CLICK_PX = 5;

/** Pixels per press of an arrow key. */
const STEP_PX = 120;

/** Wheels that count in lines or pages, in pixels. */
const WHEEL_PX = [1, 33, 400];

/** Pixels of a wheel, and of a pinch on a touchpad, that double the scale. */
const WHEEL_DOUBLES_PX = 300;
const TOUCHPAD_DOUBLES_PX = 75;

/** Steers a camera. `dragged()` is called with each step of a drag, `clicked(px, py)` after a click. */
export function steer(element, camera, { dragged, clicked }) {
  /** Fingers and buttons that are down: pointer id to its last place. */
  const down = new Map();
  let travelled = 0;

  const middle = () => {
    const places = [...down.values()];
    const mean = (axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length;
    const [x, y] = [mean('x'), mean('y')];
    return { x, y, spread: places.length < 2 ? 0 : Math.hypot(places[0].x - places[1].x, places[0].y - places[1].y) };
  };

  element.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    if (down.size === 0) travelled = 0;
    down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    element.classList.add('dragged');
  });

  element.addEventListener('pointermove', (event) => {
    if (!down.has(event.pointerId)) return;
    const before = middle();
    down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    const after = middle();
    const [dx, dy] = [after.x - before.x, after.y - before.y];
    travelled += Math.hypot(dx, dy) + Math.abs(after.spread - before.spread);
    if (travelled < CLICK_PX) return;
    camera.pan(dx, dy);
    if (before.spread > 0 && after.spread > 0) camera.zoomBy(Math.log2(after.spread / before.spread), after.x, after.y);
    dragged();
  });

  const release = (event) => {
    if (!down.delete(event.pointerId) || down.size > 0) return;
    element.classList.remove('dragged');
    if (travelled < CLICK_PX && event.type === 'pointerup') clicked(event.offsetX, event.offsetY);
  };
  element.addEventListener('pointerup', release);
  element.addEventListener('pointercancel', release);

  element.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      const doubles = event.ctrlKey ? TOUCHPAD_DOUBLES_PX : WHEEL_DOUBLES_PX;
      camera.glideBy((-event.deltaY * WHEEL_PX[event.deltaMode]) / doubles, event.offsetX, event.offsetY);
    },
    { passive: false },
  );

  element.addEventListener('dblclick', (event) => {
    camera.glideBy(event.shiftKey ? -1 : 1, event.offsetX, event.offsetY);
  });

  const keys = {
    ArrowLeft: () => camera.pan(STEP_PX, 0),
    ArrowRight: () => camera.pan(-STEP_PX, 0),
    ArrowUp: () => camera.pan(0, STEP_PX),
    ArrowDown: () => camera.pan(0, -STEP_PX),
    '+': () => camera.glideBy(1),
    '=': () => camera.glideBy(1),
    '-': () => camera.glideBy(-1),
  };
  window.addEventListener('keydown', (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
}
