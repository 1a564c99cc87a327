// Pictures come in: chosen, dropped, pasted or of a camera. The server has the last word on each.
export default {
  template: `
    <div class="drop" :class="{over}">
      <div class="buttons">
        <button type="button" class="main" @click="$refs.file.click()">Add pictures</button>
        <button type="button" v-if="secure" :disabled="waits" @click="film ? shoot() : start()">{{ film ? "Take it" : "Camera" }}</button>
        <button type="button" v-if="film" @click="stop">Stop</button>
        <input ref="file" type="file" multiple accept="image/*" hidden aria-label="pictures" @change="chosen">
      </div>
      <p class="hint">or drop them anywhere on the page<template v-if="secure">, or paste one</template>.
        <span v-if="!secure">The camera and copying need https or localhost, so they are not here.</span></p>
      <video v-show="film" ref="video" autoplay muted playsinline @loadeddata="waits = false"></video>
      <p v-if="sending" class="hint" role="status"><span class="spin"></span>sending {{ sending }}</p>
      <ul v-if="errors.length" class="errors" role="alert">
        <li v-for="(line, place) in errors" :key="place">{{ line }}
          <button type="button" class="quiet" aria-label="dismiss" @click="errors.splice(place, 1)">×</button></li>
      </ul>
    </div>`,
  props: { url: String, most: Number },
  data: () => ({ over: false, sending: "", errors: [], film: null, waits: false, taken: 0, secure: window.isSecureContext }),
  mounted() {
    this.listeners = {
      dragover: (event) => { event.preventDefault(); this.over = true; },
      dragleave: (event) => { if (!event.relatedTarget) this.over = false; },
      drop: (event) => {
        event.preventDefault();
        this.over = false;
        this.send([...event.dataTransfer.files]);
      },
      paste: (event) => {
        const files = [...(event.clipboardData?.files ?? [])];
        // Some programs copy a picture of the text too: in a field the text is meant.
        const typed = event.target.closest?.("textarea, input") && event.clipboardData.getData("text/plain");
        if (files.length && !typed) { event.preventDefault(); this.send(files); }
      },
    };
    for (const [name, listener] of Object.entries(this.listeners)) window.addEventListener(name, listener);
  },
  unmounted() {
    for (const [name, listener] of Object.entries(this.listeners)) window.removeEventListener(name, listener);
    this.stop();
  },
  methods: {
    chosen(event) {
      this.send([...event.target.files]);
      event.target.value = "";
    },
    async send(files) {
      this.errors = [];
      for (const file of files) {
        this.sending = file.name;
        try {
          await this.sendOne(file);
        } catch {
          this.errors.push(`${file.name} was not sent: the server does not answer`);
        }
      }
      this.sending = "";
    },
    async sendOne(file) {
      if (file.size > this.most) {
        this.errors.push(`'${file.name}' has more than ${Math.round(this.most / 1e6)} MB: make it smaller`);
        return;
      }
      const where = `${this.url}?name=${encodeURIComponent(file.name.slice(-100))}`;
      const answer = await fetch(where, { method: "POST", body: file });
      if (answer.ok) return;
      const told = await answer.json().catch(() => ({}));
      this.errors.push(told.error ?? `${file.name} was refused (${answer.status})`);
    },
    async start() {
      this.errors = [];
      this.waits = true; // for whoever has to allow it, then for the first picture
      try {
        this.film = await navigator.mediaDevices.getUserMedia({ video: true });
        this.$refs.video.srcObject = this.film;
      } catch (error) {
        this.waits = false;
        this.errors.push(`the camera cannot be used (${error.name})`);
      }
    },
    shoot() {
      const video = this.$refs.video;
      const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      const name = `camera-${++this.taken}.png`;
      canvas.toBlob((blob) => this.send([new File([blob], name)]));
      this.stop();
    },
    stop() {
      this.film?.getTracks().forEach((track) => track.stop());
      this.film = null;
      this.waits = false;
    },
  },
};
