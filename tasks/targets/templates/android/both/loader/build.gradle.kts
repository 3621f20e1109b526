plugins {
    id("com.android.library")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "edgewright"
    compileSdk = 36
    defaultConfig {
        minSdk = 29
        ndk { abiFilters += "arm64-v8a" }
        externalNativeBuild { cmake { arguments += "-DLLAMA=" + (findProperty("llama") ?: error("-Pllama=...")) } }
    }
    externalNativeBuild { cmake { path = file("src/main/cpp/CMakeLists.txt") } }
    packaging { jniLibs { useLegacyPackaging = false } }  // libraries are mapped out of the APK, too
    androidResources { noCompress += "gguf" }
}
