plugins {
    id("com.android.ai-pack")
}

// With Gradle: this file, and the model as src/main/assets/model.gguf, beside an app that names it in `assetPacks`.
aiPack {
    packName = "$SPLIT"
    dynamicDelivery {
        deliveryType = "$DELIVERY"
    }
}
