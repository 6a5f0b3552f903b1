// Decides in each frame what of the picture is drawn. A fast machine draws all of it in every frame that needs one. A
// slow one draws a sheet piece by piece over many frames, shifts and stretches the last one with the camera meanwhile,
// and draws in every frame only what moves or flashes.
import type { Edges } from '../state/edges';
import { type Camera, same } from './camera';
import type { Pace } from './pace';
import type { Places } from './places';
import type { Look, Scene } from './scene';

/** A slow machine rests that long between two sheets, unless the camera moves. */
const REST_MS = 350;
/** All edges are brought to the GPU at once: while many change, not in every frame. */
const EDGES_MS = 250;
const TINT = { z: 0.45, type: 0.25 };

export class Drawing {
  /** What of the sheet the last frame drew, in edges, and whether that was all of it. */
  drawn = 0;
  whole = true;
  private stale = true;
  private coarse = false;
  private restUntilMs = 0;
  private seenEdges = -1;
  private edgesAtMs = Number.NEGATIVE_INFINITY;
  private sheetCamera: Camera | null = null;

  constructor(
    private readonly scene: Scene,
    private readonly places: Places,
    private readonly edges: Edges,
    private readonly pace: Pace,
  ) {}

  /** Something changed that is on the sheet. */
  touch(): void {
    this.stale = true;
  }

  pickOut(pairs: number[], slots: number[]): void {
    this.scene.pickOut(pairs, slots);
  }

  /** Draw a frame. Returns whether another one is due, though nothing else may happen. */
  frame(look: Look, ms: number, active: boolean): boolean {
    const { scene, places, pace } = this;
    scene.upload(places);
    // A sheet that is begun is finished first: under a stream of changes a slow machine would never have one.
    if (this.edgesDue && !scene.drawing && ms - this.edgesAtMs >= EDGES_MS) {
      this.seenEdges = this.edges.revision;
      this.edgesAtMs = ms;
      scene.uploadEdges(this.edges);
      this.stale = true;
    }
    const fast = scene.cost(places) <= pace.budget;
    this.drawn = 0;
    this.whole = fast;
    if (!scene.drawing) this.beginSheet(look, ms, active, fast);
    if (scene.drawing) {
      this.drawn = Math.min(pace.budget, scene.cost(places));
      scene.advance(pace.budget, TINT[places.shadeBy], places);
      if (!scene.drawing) this.restUntilMs = ms + REST_MS;
    }
    const all = !fast && look.now < places.glidingUntil;
    const hot = places.hotAt(look.now, scene.drawnAt);
    scene.draw(look, places, all ? null : hot);
    return scene.drawing || this.stale || this.coarse || hot.length > 0 || this.edgesDue;
  }

  private get edgesDue(): boolean {
    return this.seenEdges !== this.edges.revision;
  }

  private beginSheet(look: Look, ms: number, active: boolean, fast: boolean): void {
    const moved = !this.sheetCamera || !same(this.sheetCamera, look.camera);
    const resting = !fast && !moved && ms < this.restUntilMs;
    // What had to be coarse while things moved is drawn once more, finely, when all is at rest.
    const polish = this.coarse && !active && !this.stale && !moved;
    if (resting || !(this.stale || moved || polish || (fast && active))) return;
    const fine = this.pace.fine || polish;
    this.scene.begin(look, fine, fast);
    this.coarse = !fine;
    this.sheetCamera = look.camera;
    this.stale = look.now < this.places.movingUntil;
  }
}
