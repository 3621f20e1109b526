package edgewright

import android.content.Context

/**
 * The model that is installed with the app, mapped out of its APK: nothing is copied to the app's storage.
 *
 * Throws FileNotFoundException where the asset is missing, or was compressed by whoever packed it anew.
 */
fun Context.mappedModel(
    asset: String = "model.gguf",
    tokens: Int = 2048,
    threads: Int = 4,
    copy: Boolean = false
): MappedModel = assets.openFd(asset).use {
    MappedModel(it.parcelFileDescriptor.fd, it.startOffset, tokens, threads, copy)
}
