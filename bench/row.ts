/** One measurement beside what it is compared with; null where there is nothing to compare. */
export interface Row {
  name: string;
  value: number;
  unit: string;
  baseline: number | null;
  ratio: number | null;
}
