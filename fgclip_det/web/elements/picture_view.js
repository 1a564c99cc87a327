// A picture, what was found in it, and what can be done with it: pointer, touch and keys.
const LEAST_DRAG = 5; // pixels of the screen; less is a click
const LEAST_SIDE = 4; // pixels of the picture; the server takes no less
const STEPS = 64; // of an arrow key, along the longer side
const ARROWS = { ArrowRight: [1, 0], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowUp: [0, -1] };
const cut = (value, least, most) => Math.min(Math.max(value, least), most);

export default {
  template: `
    <figure class="picture" @keydown.esc="drawing && draw(false)">
      <div ref="frame" class="frame" :class="{drawing}" :style="{aspectRatio: size[0] + ' / ' + size[1]}"
           @pointerdown="down" @pointermove="move" @pointerup="up" @pointercancel="cancel"
           @mousedown="drawing && $event.preventDefault()"
           @pointerleave="leave" @keydown="key" @focusin="focus" @focusout="tip = null">
        <img :src="src" :alt="name" draggable="false">
        <img v-if="layer" class="layer" :src="layer" alt="">
        <div class="overlay" v-html="svg"></div>
        <div v-if="drag && drag.moved" class="drag" :style="dragStyle"></div>
        <div v-else-if="menu && !menu.found" class="drag" :style="penStyle"></div>
        <div v-else-if="drawing" ref="pen" class="drag pen" :style="penStyle" role="application" tabindex="0"
             aria-roledescription="box to be placed" :aria-label="'new example in ' + name + ', ' + penTold"
             :aria-describedby="hintId" @keydown="steer"></div>
        <div v-if="busy" class="busy" role="status"><span class="spin"></span>{{ busy }}</div>
        <div v-if="tip && !menu" class="tip" :style="tipStyle">
          <b><i :style="{background: tip.color}"></i>{{ tip.number }} {{ tip.short }}</b>
          <span v-for="line in tip.lines">{{ line }}</span>
        </div>
      </div>
      <p v-if="drawing" class="hint keys"><span :id="hintId">Arrows move the box, Shift and arrows size it, with Ctrl or Alt
        by a pixel; Enter takes it, Escape leaves it. Or drag a new one.</span> <span role="status">{{ penTold }}</span></p>
      <div v-if="menu" ref="menu" class="menu" role="dialog" :aria-label="menu.title" @keydown.esc.stop="close">
        <b>{{ menu.title }}</b>
        <span v-for="line in menu.lines" class="line">{{ line }}</span>
        <label>name <input v-model="menu.name" maxlength="200" @input="menu.isBlank = false" @keydown.enter.prevent="send('like')"></label>
        <span v-if="menu.isBlank" class="line" role="alert">Say what it is called: a name is missing.</span>
        <div class="buttons">
          <button type="button" class="main" @click="send('like')">Use as example</button>
          <button type="button" v-if="menu.found" @click="send('unlike')">Not this</button>
          <button type="button" v-if="menu.found" @click="send('heat')">Heat map</button>
          <button type="button" @click="close">Close</button>
        </div>
      </div>
      <figcaption>
        <span class="file" :title="name">{{ name }}</span>
        <span class="told">{{ told }}</span>
        <button ref="draw" type="button" class="quiet" :aria-pressed="drawing" :aria-label="'draw an example in ' + name" :disabled="isTiny" :title="drawTitle" @click="draw(!drawing)">draw</button>
        <button type="button" v-if="layer" class="quiet" @click="$emit('heat', {name: ''})">no map</button>
        <button ref="remove" type="button" class="quiet" :aria-label="'remove ' + name" @click="$emit('removed', {})">remove</button>
      </figcaption>
      <div v-if="layer" class="told caption">{{ caption }}</div>
      <ol v-if="rows.length" class="rows">
        <li v-for="(row, place) in rows" :key="place" @pointerenter="light(place)" @pointerleave="light(null)" @click="open(place)">
          <i :style="{background: row.color}"></i>{{ row.number }} <span>{{ row.short }}</span> {{ row.certainty }}
        </li>
      </ol>
    </figure>`,
  props: {
    src: String, name: String, size: Array, svg: String, rows: Array, told: String,
    layer: String, caption: String, busy: String,
  },
  emits: ["resized", "like", "unlike", "heat", "removed"],
  data: () => ({ tip: null, at: [0, 0], menu: null, drag: null, drawing: false, pen: [0, 0, 0, 0], width: 0 }),
  computed: {
    tipStyle() {
      const [x, y] = this.at;
      const side = x > this.width / 2 ? { right: this.width - x + 8 + "px" } : { left: x + 8 + "px" };
      return { ...side, top: y + 12 + "px" };
    },
    dragStyle() {
      const { from, to } = this.drag;
      return {
        left: Math.min(from[0], to[0]) + "px", top: Math.min(from[1], to[1]) + "px",
        width: Math.abs(from[0] - to[0]) + "px", height: Math.abs(from[1] - to[1]) + "px",
      };
    },
    penStyle() {
      const [x1, y1, x2, y2] = this.pen;
      const share = (value, axis) => (100 * value) / this.size[axis] + "%";
      return { left: share(x1, 0), top: share(y1, 1), width: share(x2 - x1, 0), height: share(y2 - y1, 1) };
    },
    penTold() {
      return `box ${this.pen.join(", ")}`;
    },
    isTiny() {
      return Math.min(...this.size) < LEAST_SIDE;
    },
    drawTitle() {
      if (this.isTiny) return `Too small for an example, which has ${LEAST_SIDE} pixels or more to each side`;
      return "Draw a box around an example, by keys or a finger (with a mouse: just drag)";
    },
    hintId() {
      return `keys-${this.src.slice(-16)}`;
    },
  },
  watch: {
    // An answer is drawn anew, and takes the box that has the focus with it.
    svg() {
      const row = this.boxes().indexOf(document.activeElement);
      if (row >= 0) this.$nextTick(() => this.rest(row));
    },
  },
  mounted() {
    this.observer = new ResizeObserver(() => {
      const width = Math.round(this.$refs.frame.clientWidth);
      if (Math.abs(width - this.width) < 4 || !width) return;
      this.width = width;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.$emit("resized", { width }), 60);
    });
    this.observer.observe(this.$refs.frame);
  },
  unmounted() {
    this.observer.disconnect();
    clearTimeout(this.timer);
  },
  methods: {
    place(event) {
      const frame = this.$refs.frame.getBoundingClientRect();
      return [cut(event.clientX - frame.left, 0, frame.width), cut(event.clientY - frame.top, 0, frame.height)];
    },
    rowOf(event) {
      const box = event.target.closest?.("[data-row]");
      return box ? Number(box.dataset.row) : null;
    },
    down(event) {
      if (event.button !== 0 || (event.pointerType === "touch" && !this.drawing)) return;
      const from = this.place(event);
      this.drag = { from, to: from, moved: false, row: this.rowOf(event) };
      this.$refs.frame.setPointerCapture(event.pointerId);
    },
    move(event) {
      this.at = this.place(event);
      if (this.drag) {
        this.drag.to = this.at;
        const far = Math.max(...this.at.map((value, axis) => Math.abs(value - this.drag.from[axis])));
        this.drag.moved = this.drag.moved || far > LEAST_DRAG;
        this.tip = null;
        return;
      }
      const row = this.rowOf(event);
      this.light(row);
      this.tip = row === null ? null : this.rows[row];
    },
    up(event) {
      const drag = this.drag;
      this.drag = null;
      if (!drag) {
        const row = this.rowOf(event); // a touch
        if (row !== null) this.open(row);
        return;
      }
      if (!drag.moved) {
        if (drag.row !== null) this.open(drag.row);
        else {
          this.menu = null;
          this.keepPen();
        }
        return;
      }
      const scale = this.size[0] / this.$refs.frame.clientWidth;
      const xs = [drag.from[0], drag.to[0]].sort((a, b) => a - b);
      const ys = [drag.from[1], drag.to[1]].sort((a, b) => a - b);
      this.nameNew([xs[0], ys[0], xs[1], ys[1]].map((value) => Math.round(value * scale * 10) / 10));
    },
    cancel() {
      this.drag = null;
      this.keepPen();
    },
    // After a tap the mouse event that browsers make of it would take the focus: see the frame.
    keepPen() {
      if (this.drawing) this.$nextTick(() => this.$refs.pen?.focus());
    },
    draw(on) {
      this.drawing = on;
      this.menu = null;
      if (on) {
        const sides = this.size.map((most) => Math.max(LEAST_SIDE, Math.round(most / 2)));
        const lows = sides.map((side, axis) => Math.round((this.size[axis] - side) / 2));
        this.pen = [...lows, ...lows.map((low, axis) => low + sides[axis])];
      }
      this.$nextTick(() => (on ? this.$refs.pen : this.$refs.draw)?.focus());
    },
    steer(event) {
      if (event.key in ARROWS) {
        const far = event.ctrlKey || event.altKey ? 1 : Math.ceil(Math.max(...this.size) / STEPS);
        ARROWS[event.key].forEach((sign, axis) => this.steerAlong(axis, sign * far, event.shiftKey));
      } else if (event.key === "Enter" || event.key === " ") {
        this.nameNew([...this.pen]);
      } else return;
      event.preventDefault();
    },
    steerAlong(axis, far, sizes) {
      const [low, high, most] = [this.pen[axis], this.pen[axis + 2], this.size[axis]];
      const by = sizes ? cut(far, Math.min(low + LEAST_SIDE - high, 0), most - high) : cut(far, -low, most - high);
      this.pen[axis + 2] = high + by;
      if (!sizes) this.pen[axis] = low + by;
    },
    nameNew(box) {
      this.drawing = false;
      this.pen = box;
      this.ask({ box, name: "this", title: "A new example", lines: ["What is it called?"], found: false });
    },
    leave() {
      if (this.drag) return;
      this.tip = null;
      this.light(null);
    },
    light(row) {
      for (const one of this.$refs.frame.querySelectorAll(".box, .label"))
        one.classList.toggle("lit", row !== null && Number(one.dataset.row) === row);
    },
    boxes() {
      return [...this.$refs.frame.querySelectorAll(".box")].sort((a, b) => a.dataset.row - b.dataset.row);
    },
    focus(event) {
      const row = this.rowOf(event);
      if (row === null) return;
      const frame = this.$refs.frame.getBoundingClientRect();
      const box = event.target.getBoundingClientRect();
      this.at = [box.left - frame.left + box.width / 2, box.bottom - frame.top];
      this.tip = this.rows[row];
      this.light(row);
    },
    key(event) {
      const row = this.rowOf(event);
      if (row === null) return;
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const boxes = this.boxes();
      if (step || event.key === "Home" || event.key === "End") {
        event.preventDefault();
        const next = event.key === "Home" ? 0 : event.key === "End" ? -1 : (row + step) % boxes.length;
        this.reach(boxes.at(next));
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        this.open(row);
      } else if (event.key === "Escape") {
        this.tip = null;
      }
    },
    reach(box) {
      this.boxes().forEach((one) => one.setAttribute("tabindex", one === box ? "0" : "-1"));
      box.focus();
    },
    // Gives the focus to a box, or to what is nearest to it now.
    rest(place) {
      const box = this.boxes().slice(0, place + 1).at(-1);
      if (this.drawing && this.$refs.pen) this.$refs.pen.focus();
      else if (box) this.reach(box);
      else (this.isTiny ? this.$refs.remove : this.$refs.draw).focus();
    },
    open(place) {
      const row = this.rows[place];
      if (!row) return;
      this.ask({ ...row, title: `${row.number} ${row.short}`, found: true, place, own: row.name });
    },
    ask(menu) {
      this.menu = { ...menu, isBlank: false };
      this.tip = null;
      this.$nextTick(() => {
        const input = this.$refs.menu?.querySelector("input");
        input?.focus();
        if (!menu.found) input?.select();
      });
    },
    send(kind) {
      const { box, own } = this.menu;
      // A name that was typed is an example's; what is found keeps the one it was found by.
      const name = kind === "like" ? this.menu.name : own;
      // The server would refuse it, and the box would have to be drawn again.
      if (/^[\s.,;]*$/.test(name)) {
        this.menu.isBlank = true;
        this.$refs.menu.querySelector("input").focus();
        return;
      }
      this.$emit(kind, kind === "heat" ? { name } : { name, box });
      this.close();
    },
    close() {
      const { found, place } = this.menu;
      this.menu = null;
      this.$nextTick(() => this.rest(found ? place : -1));
    },
  },
};
