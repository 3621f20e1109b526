package edgewright

import java.io.Closeable

/** What the library `edgewright` does; see edgewright_jni.cpp. */
internal object Native {
    init {
        System.loadLibrary("edgewright")
    }

    external fun open(fd: Int, offset: Long, map: Boolean, context: Int, threads: Int): Long

    external fun generate(handle: Long, prompt: ByteArray, most: Int): ByteArray

    external fun close(handle: Long)
}

/**
 * A language model that is mapped out of the middle of a file.
 *
 * [fd] may be closed afterwards. [offset] is where the model begins: llama.cpp maps none that does not begin at a
 * multiple of 32. With [copy] such a one is read into memory of the app's own; else IllegalArgumentException says so.
 * Throws IllegalStateException where llama.cpp refuses.
 */
class MappedModel(fd: Int, offset: Long, context: Int = 2048, threads: Int = 4, copy: Boolean = false) : Closeable {
    val mapped = offset % ALIGNED == 0L
    private var handle: Long

    init {
        require(mapped || copy) { "the model begins at byte " + offset + ", which is no multiple of " + ALIGNED }
        handle = Native.open(fd, offset, mapped, context, threads)
    }

    /** The most likely [most] tokens after [prompt]; on one thread at a time. */
    @Synchronized
    fun generate(prompt: String, most: Int = 128): String {
        check(handle != 0L) { "the model was closed" }
        return String(Native.generate(handle, prompt.toByteArray(Charsets.UTF_8), most), Charsets.UTF_8)
    }

    @Synchronized
    override fun close() {
        if (handle != 0L) Native.close(handle)
        handle = 0L
    }

    companion object {
        const val ALIGNED = 32L
    }
}
