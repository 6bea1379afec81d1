// Who is near: vehicles in square cells as wide as the radius.

const RADIANS_PER_DEGREE = Math.PI / 180;

// WGS84, as cheap-ruler has it.
const EQUATOR_M_PER_DEGREE = 6_378_137 * RADIANS_PER_DEGREE;
const FLATTENING = 1 / 298.257223563;
const ECCENTRICITY2 = FLATTENING * (2 - FLATTENING);

/** Where a degree of latitude is shortest, the equator, a row is as wide as the radius. */
const LAT_M_PER_DEGREE_MIN = EQUATOR_M_PER_DEGREE * (1 - ECCENTRICITY2);

/** Towards the poles a degree of longitude shrinks to nothing; columns stop shrinking here (89°). */
const COSINE_MIN = Math.cos(89 * RADIANS_PER_DEGREE);

/**
 * Vehicles by where they are. A vehicle is any object; the fields `lat`, `lon` (degrees), `cell` and `slot` belong to
 * the index. Each row of cells has as many columns as fit around the earth at its own latitude, so a cell is about a
 * radius wide everywhere, and what is within the radius lies in three rows and, mostly, three columns.
 */
export class Near {
  #radiusM;
  #rowDegrees;
  /** Row number to a map from column number to an array of vehicles. */
  #rows = new Map();
  /** The array that `around` returns, every time. */
  #found = [];

  constructor(radiusM) {
    this.#radiusM = radiusM;
    this.#rowDegrees = radiusM / LAT_M_PER_DEGREE_MIN;
  }

  /** Puts a vehicle where it is now; also one that was not there before. */
  move(vehicle, lat, lon) {
    vehicle.lat = lat;
    vehicle.lon = lon;
    const row = Math.floor(lat / this.#rowDegrees);
    const columns = this.#columns(row);
    let column = Math.floor(((lon + 180) / 360) * columns);
    if (column === columns) column = 0;
    const cell = vehicle.cell;
    if (cell !== null && cell.row === row && cell.column === column) return;
    if (cell !== null) this.remove(vehicle);
    let cells = this.#rows.get(row);
    if (cells === undefined) this.#rows.set(row, (cells = new Map()));
    let target = cells.get(column);
    if (target === undefined) cells.set(column, (target = { row, column, vehicles: [] }));
    vehicle.cell = target;
    vehicle.slot = target.vehicles.push(vehicle) - 1;
  }

  remove(vehicle) {
    const cell = vehicle.cell;
    if (cell === null) return;
    const { row, column, vehicles } = cell;
    const last = vehicles.pop();
    if (last !== vehicle) {
      vehicles[vehicle.slot] = last;
      last.slot = vehicle.slot;
    }
    vehicle.cell = null;
    if (vehicles.length > 0) return;
    const cells = this.#rows.get(row);
    cells.delete(column);
    if (cells.size === 0) this.#rows.delete(row);
  }

  /** All others within the radius of a vehicle that has a place. The array is valid until the next call. */
  around(vehicle) {
    const { lat, lon } = vehicle;
    const found = this.#found;
    let count = 0;
    const cosine = Math.max(Math.cos(lat * RADIANS_PER_DEGREE), COSINE_MIN);
    const squeeze2 = 1 / (1 - ECCENTRICITY2 * (1 - cosine * cosine));
    const squeeze = Math.sqrt(squeeze2);
    const latM = EQUATOR_M_PER_DEGREE * squeeze * squeeze2 * (1 - ECCENTRICITY2);
    const lonM = EQUATOR_M_PER_DEGREE * squeeze * cosine;
    const squareM2 = this.#radiusM * this.#radiusM;
    const here = Math.floor(lat / this.#rowDegrees);
    for (let row = here - 1; row <= here + 1; row += 1) {
      const cells = this.#rows.get(row);
      if (cells === undefined) continue;
      const columns = this.#columns(row);
      const middle = ((lon + 180) / 360) * columns;
      const reach = (this.#radiusM / lonM / 360) * columns;
      const last = Math.min(Math.floor(middle + reach), Math.floor(middle - reach) + columns - 1);
      for (let at = Math.floor(middle - reach); at <= last; at += 1) {
        const cell = cells.get(at < 0 ? at + columns : at >= columns ? at - columns : at);
        if (cell === undefined) continue;
        const vehicles = cell.vehicles;
        for (let index = 0; index < vehicles.length; index += 1) {
          const other = vehicles[index];
          const north = (other.lat - lat) * latM;
          let degrees = other.lon - lon;
          if (degrees > 180) degrees -= 360;
          else if (degrees < -180) degrees += 360;
          const east = degrees * lonM;
          if (north * north + east * east <= squareM2 && other !== vehicle) found[count++] = other;
        }
      }
    }
    found.length = count;
    return found;
  }

  #columns(row) {
    const lat = (row + 0.5) * this.#rowDegrees;
    const cosine = Math.max(Math.cos(lat * RADIANS_PER_DEGREE), COSINE_MIN);
    return Math.max(1, Math.floor((360 / this.#rowDegrees) * cosine));
  }
}
