// Web Mercator. The world is a unit square: x grows to the east from the antimeridian, y to the south from 85.05° N.

/** Where the square ends in the north and in the south, degrees. */
export const LAT_MAX = 85.05112877980659;

/** The equator of WGS 84, metres. */
const EQUATOR_M = 40_075_016.686;

/** Mean radius of the earth, kilometres. */
const RADIUS_KM = 6_371.0088;

const RADIANS = Math.PI / 180;

export const xOf = (lon) => lon / 360 + 0.5;

export function yOf(lat) {
  const bounded = Math.min(Math.max(lat, -LAT_MAX), LAT_MAX);
  return 0.5 - Math.log(Math.tan(Math.PI / 4 + (bounded * RADIANS) / 2)) / (2 * Math.PI);
}

/** Degrees, from −180 up to 180, also of an x beyond the square. */
export const lonOf = (x) => (x - Math.floor(x) - 0.5) * 360;

export const latOf = (y) => Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) / RADIANS;

/** The shorter way from one x to another, right across the antimeridian. */
export const wayX = (from, to) => to - from - Math.round(to - from);

/** Metres on the ground that the square's side would have at a latitude. */
export const metresPerSide = (lat) => EQUATOR_M * Math.cos(lat * RADIANS);

/** Square kilometres of an area given by its edges in degrees; one whose west is beyond its east crosses ±180°. */
export function areaKm2({ south, west, north, east }) {
  const width = east >= west ? east - west : east - west + 360;
  return RADIUS_KM ** 2 * width * RADIANS * (Math.sin(north * RADIANS) - Math.sin(south * RADIANS));
}

/** The largest of 1, 2 and 5 times a power of ten that is not above `most`. */
export function roundBelow(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].map((n) => n * power).find((step) => step <= most * 1.000001);
}

const degrees = (value, decimals, [positive, negative]) => {
  const text = Math.abs(value).toFixed(decimals);
  return `${text}°${Number(text) === 0 ? '' : value > 0 ? ` ${positive}` : ` ${negative}`}`;
};

export const latText = (lat, decimals) => degrees(lat, decimals, 'NS');
export const lonText = (lon, decimals) => degrees(lon, decimals, 'EW');

export function metresText(metres) {
  return metres < 1_000 ? `${Math.round(metres)} m` : `${Number((metres / 1_000).toPrecision(3))} km`;
}
