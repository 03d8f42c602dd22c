"""Codes of the result objects (PS3.16 Annex D and context groups; meanings as the standard writes them)."""

from pydicom.sr.coding import Code

from dicomnode.images.mammography import MODIFIER_OF_CODE, VIEW_OF_CODE

OWN_SCHEME = "99DICOMNODE"


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


# document
MEASUREMENT_REPORT = _dcm("126000", "Imaging Measurement Report")
LANGUAGE = _dcm("121049", "Language of Content Item and Descendants")
ENGLISH = Code("en", "RFC5646", "English")
OBSERVER_TYPE = _dcm("121005", "Observer Type")
DEVICE = _dcm("121007", "Device")
DEVICE_UID = _dcm("121012", "Device Observer UID")
DEVICE_NAME = _dcm("121013", "Device Observer Name")
DEVICE_MANUFACTURER = _dcm("121014", "Device Observer Manufacturer")
DEVICE_MODEL = _dcm("121015", "Device Observer Model Name")
DEVICE_SERIAL = _dcm("121016", "Device Observer Serial Number")
PROCEDURE_REPORTED = _dcm("121058", "Procedure reported")
IMAGING_PROCEDURE = _sct("363679005", "Imaging procedure")
MEASUREMENTS = _dcm("126010", "Imaging Measurements")
EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
SUMMARY = _dcm("121111", "Summary")
COMMENT = _dcm("121106", "Comment")

# image library, TID 1600 to 1603
IMAGE_LIBRARY = _dcm("111028", "Image Library")
LIBRARY_GROUP = _dcm("126200", "Image Library Group")
MODALITY = _dcm("121139", "Modality")
TARGET_REGION = _dcm("123014", "Target Region")
IMAGE_LATERALITY = _dcm("111027", "Image Laterality")
STUDY_DATE = _dcm("111060", "Study Date")
STUDY_TIME = _dcm("111061", "Study Time")
CONTENT_DATE = _dcm("111018", "Content Date")
CONTENT_TIME = _dcm("111019", "Content Time")
PIXEL_ROWS = _dcm("110910", "Pixel Data Rows")
PIXEL_COLUMNS = _dcm("110911", "Pixel Data Columns")
IMAGE_VIEW = _dcm("111031", "Image View")
ORIENTATION_ROW = _dcm("111044", "Patient Orientation Row")
ORIENTATION_COLUMN = _dcm("111043", "Patient Orientation Column")
HORIZONTAL_SPACING = _dcm("111026", "Horizontal Pixel Spacing")
VERTICAL_SPACING = _dcm("111066", "Vertical Pixel Spacing")
FRAME_OF_REFERENCE = _dcm("112227", "Frame of Reference UID")

# slices in the image library, TID 1604
SPACING_BETWEEN_SLICES = _dcm("112226", "Spacing between slices")
SLICE_THICKNESS = _dcm("112225", "Slice Thickness")
POSITION_X = _dcm("110901", "Image Position (Patient) X")
POSITION_Y = _dcm("110902", "Image Position (Patient) Y")
POSITION_Z = _dcm("110903", "Image Position (Patient) Z")
ROW_X = _dcm("110904", "Image Orientation (Patient) Row X")
ROW_Y = _dcm("110905", "Image Orientation (Patient) Row Y")
ROW_Z = _dcm("110906", "Image Orientation (Patient) Row Z")
COLUMN_X = _dcm("110907", "Image Orientation (Patient) Column X")
COLUMN_Y = _dcm("110908", "Image Orientation (Patient) Column Y")
COLUMN_Z = _dcm("110909", "Image Orientation (Patient) Column Z")

# measurement groups, TID 1410, 1501, 4019
MEASUREMENT_GROUP = _dcm("125007", "Measurement Group")
TRACKING_IDENTIFIER = _dcm("112039", "Tracking Identifier")
TRACKING_UID = _dcm("112040", "Tracking Unique Identifier")
FINDING = _dcm("121071", "Finding")
FINDING_SITE = _sct("363698007", "Finding Site")
LATERALITY = _sct("272741003", "Laterality")
ALGORITHM_NAME = _dcm("111001", "Algorithm Name")
ALGORITHM_VERSION = _dcm("111003", "Algorithm Version")
ALGORITHM_PARAMETERS = _dcm("111002", "Algorithm Parameters")
IMAGE_REGION = _dcm("111030", "Image Region")
SOURCE_OF_MEASUREMENT = _dcm("121112", "Source of Measurement")
EQUIVALENT_MEANING = _dcm("121050", "Equivalent Meaning of Concept Name")
CERTAINTY_OF_FINDING = _dcm("111012", "Certainty of Finding")
MALIGNANCY_SCORE = Code("malignancy-score", OWN_SCHEME, "Malignancy score")
LONG_AXIS = _sct("103339001", "Long Axis")
AREA = _sct("42798000", "Area")

# regions in volumes, TID 1411
REFERENCED_SEGMENT = _dcm("121191", "Referenced Segment")
SOURCE_SERIES = _dcm("121232", "Source series for segmentation")
VOLUME = _sct("118565006", "Volume")
ATTENUATION = _dcm("112031", "Attenuation Coefficient")
DERIVATION = _dcm("121401", "Derivation")
MEAN = _sct("373098007", "Mean")
STANDARD_DEVIATION = _sct("386136009", "Standard Deviation")

# CAD processing summary, CID 6047
PROCESSING_SUMMARY = _dcm("111017", "CAD Processing and Findings Summary")
ALL_WITHOUT_FINDINGS = _dcm("111241", "All algorithms succeeded; without findings")
ALL_WITH_FINDINGS = _dcm("111242", "All algorithms succeeded; with findings")
NOT_ALL_WITHOUT_FINDINGS = _dcm("111243", "Not all algorithms succeeded; without findings")
NOT_ALL_WITH_FINDINGS = _dcm("111244", "Not all algorithms succeeded; with findings")
NONE_SUCCEEDED = _dcm("111245", "No algorithms succeeded; without findings")

# mammography CAD, TID 4000 to 4022
CAD_REPORT = _dcm("111036", "Mammography CAD Report")
IMPRESSION = _dcm("111034", "Individual Impression/Recommendation")
IMPRESSION_DESCRIPTION = _dcm("111033", "Impression Description")
SINGLE_IMAGE_FINDING = _dcm("111059", "Single Image Finding")
RENDERING_INTENT = _dcm("111056", "Rendering Intent")
PRESENTATION_REQUIRED = _dcm("111150", "Presentation Required: Rendering device is expected to present")
PRESENTATION_OPTIONAL = _dcm("111151", "Presentation Optional: Rendering device may present")
PROBABILITY_OF_CANCER = _dcm("111047", "Probability of cancer")
CENTER = _dcm("111010", "Center")
OUTLINE = _dcm("111041", "Outline")
REGION_DESCRIPTION = _dcm("111058", "Selected Region Description")
SUMMARY_OF_DETECTIONS = _dcm("111064", "Summary of Detections")
SUMMARY_OF_ANALYSES = _dcm("111065", "Summary of Analyses")
SUCCESSFUL_DETECTIONS = _dcm("111063", "Successful Detections")
FAILED_DETECTIONS = _dcm("111025", "Failed Detections")
DETECTION_PERFORMED = _dcm("111022", "Detection Performed")
SUCCEEDED = _dcm("111222", "Succeeded")  # CID 6042
PARTIALLY_SUCCEEDED = _dcm("111223", "Partially Succeeded")
FAILED = _dcm("111224", "Failed")
NOT_ATTEMPTED = _dcm("111225", "Not Attempted")
IMAGE_VIEW_MODIFIER = _dcm("111032", "Image View Modifier")
PRIMARY_ANGLE = _dcm("112011", "Positioner Primary Angle")
SECONDARY_ANGLE = _dcm("112012", "Positioner Secondary Angle")
BREASTS = {"L": _sct("80248007", "Left breast"), "R": _sct("73056007", "Right breast")}  # CID 6022
SELECTED_REGION = _dcm("111099", "Selected region")
_BREAST_DENSITY = _sct("129793001", "Mammography breast density")
# CID 6014 has no mass: on one image a mass is a density (TID 4004 would make a mass of the densities of two views).
SINGLE_IMAGE_FINDINGS = {
    ("SCT", "4147007"): _BREAST_DENSITY,
    ("SCT", "129788004"): _BREAST_DENSITY,
    ("SCT", "129793001"): _BREAST_DENSITY,
    ("SCT", "129769006"): _sct("129769006", "Calcification Cluster"),
    ("SCT", "129770007"): _sct("129770007", "Individual Calcification"),
    ("SCT", "129792006"): _sct("129792006", "Architectural distortion of breast"),
}

# key object selection, TID 2010
REJECTED = _dcm("113001", "Rejected for Quality Reasons")
KEY_OBJECT_DESCRIPTION = _dcm("113012", "Key Object Description")

# anatomy
BREAST = _sct("76752008", "Breast")
SIDES = {"L": _sct("7771000", "Left"), "R": _sct("24028007", "Right")}
ANATOMICAL_STRUCTURE = _sct("91723000", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL = _sct("49755003", "Morphologically Abnormal Structure")
_VIEW_MEANINGS = {
    "CC": "cranio-caudal",
    "MLO": "medio-lateral oblique",
    "ML": "medio-lateral",
    "LM": "latero-medial",
    "LMO": "latero-medial oblique",
    "FB": "caudo-cranial (from below)",
    "SIO": "superolateral to inferomedial oblique",
    "ISO": "inferomedial to superolateral oblique",
    "XCCL": "cranio-caudal exaggerated laterally",
    "XCCM": "cranio-caudal exaggerated medially",
}
VIEWS = {
    view: _sct(value, _VIEW_MEANINGS[view])
    for value, view in VIEW_OF_CODE.items()
    if view in _VIEW_MEANINGS and value.isdigit()
}

MODIFIERS = {  # CID 4015
    name: _sct(value, name.title()) for value, name in MODIFIER_OF_CODE.items() if value.isdigit()
}

# units
DEGREE = Code("deg", "UCUM", "deg")
MICROMETER = Code("um", "UCUM", "micrometer")
PERCENT = Code("%", "UCUM", "Percent")
SCORE = Code("{score}", "UCUM", "score")
MILLIMETER = Code("mm", "UCUM", "mm")
SQUARE_MILLIMETER = Code("mm2", "UCUM", "square millimeter")
CUBIC_MILLIMETER = Code("mm3", "UCUM", "cubic millimeter")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
COSINE = Code("{-1:1}", "UCUM", "{-1:1}")
PIXELS = Code("{pixels}", "UCUM", "pixels")

# equipment and algorithm, CID 7005 and 7162
ARTIFICIAL_INTELLIGENCE = _dcm("123110", "Artificial Intelligence")
PROCESSING_EQUIPMENT = _dcm("109102", "Processing Equipment")

# what an image is derived from, CID 7202
SOURCE_OF_PROCESSING = _dcm("121322", "Source image for image processing operation")

MODALITIES = {
    value: _dcm(value, meaning)  # CID 29
    for value, meaning in (
        ("CR", "Computed Radiography"),
        ("CT", "Computed Tomography"),
        ("DX", "Digital Radiography"),
        ("MG", "Mammography"),
        ("MR", "Magnetic Resonance"),
        ("PT", "Positron emission tomography"),
        ("US", "Ultrasound"),
    )
}
